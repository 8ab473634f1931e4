"""Sequences of embeddings on disk."""

from skdejavid.store.shards import Failure
from skdejavid.store.store import TSEStore
from skdejavid.store.writer import StoreWriter

__all__ = ["Failure", "StoreWriter", "TSEStore"]
