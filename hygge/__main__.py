"""`python -m hygge flows.yml` is the same as `hygge flows.yml`."""

from hygge.cli.main import main

raise SystemExit(main())
