"""``python -m fedlite``: the same command line as ``fedlite``."""

from fedlite.cli.main import main

if __name__ == "__main__":
    main()
