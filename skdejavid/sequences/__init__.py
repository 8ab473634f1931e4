"""Ragged sequences: the container `TSEArray`, and `check_sequences`, the one entrance for data."""

from skdejavid.sequences.array import (
    SequenceView,
    TSEArray,
    check_sequences,
    is_table_of_frames,
)

__all__ = ["SequenceView", "TSEArray", "check_sequences", "is_table_of_frames"]
