"""`python -m hygge flows.yml`."""

from hygge.cli.main import main

raise SystemExit(main())
