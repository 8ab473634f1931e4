"""The command ``skdejavid``, also as ``python -m skdejavid``."""

from __future__ import annotations

from skdejavid.optional import require


def main() -> None:
    """Run the command line, or say what it needs."""
    require("click", "cli", "The command line")
    require("skops.io", "cli", "The command line")
    from skdejavid.cli import skdejavid

    skdejavid()


if __name__ == "__main__":
    main()
