"""The command ``skdejavid``, also run by ``python -m skdejavid``."""

from __future__ import annotations

from skdejavid.compat.optional import import_optional


def main() -> None:
    """Run the command line, or name the extra that it needs."""
    import_optional("click", "cli", "The command line")
    from skdejavid.cli import skdejavid

    skdejavid()


if __name__ == "__main__":
    main()
