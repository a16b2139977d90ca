"""`python -m hygge flows.yml`."""

from hygge.cli import main

raise SystemExit(main())
