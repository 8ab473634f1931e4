"""Ragged sequences: the container `TSEArray`, and `check_sequences`, which reads all input."""

from skdejavid.sequences.array import TSEArray
from skdejavid.sequences.checks import check_sequences, read_checked
from skdejavid.sequences.layout import SequenceView

__all__ = ["SequenceView", "TSEArray", "check_sequences", "read_checked"]
