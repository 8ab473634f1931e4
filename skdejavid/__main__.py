"""The command ``skdejavid``, also run by ``python -m skdejavid``."""

from __future__ import annotations

import sys

from skdejavid.compat.optional import import_optional


def main() -> None:
    """Run the command line, or say which extra it needs."""
    try:
        import_optional("click", "cli", "The command line")
    except ImportError as error:
        sys.exit(f"Error: {error}")
    from skdejavid.cli import skdejavid

    skdejavid()


if __name__ == "__main__":
    main()
