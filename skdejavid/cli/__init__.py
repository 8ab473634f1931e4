"""The command ``skdejavid``."""

from skdejavid.cli.main import skdejavid

__all__ = ["skdejavid"]
