"""The command ``skdejavid``, also as ``python -m skdejavid``."""

from __future__ import annotations

from skdejavid.compat.optional import import_optional


def main() -> None:
    """Run the command line, or say what it needs."""
    import_optional("click", "cli", "The command line")
    import_optional("skops.io", "cli", "The command line")
    from skdejavid.cli import skdejavid

    skdejavid()


if __name__ == "__main__":
    main()
