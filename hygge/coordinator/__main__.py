"""`python -m hygge.coordinator flows.yml` is the same as `hygge flows.yml`."""

from hygge.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
