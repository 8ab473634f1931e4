"""Sequences of embeddings on disk."""

from skdejavid.files.identity import FileIdentity
from skdejavid.store.sample import Verification
from skdejavid.store.shards import Failure
from skdejavid.store.store import TSEStore
from skdejavid.store.writer import StoreWriter

__all__ = ["Failure", "FileIdentity", "StoreWriter", "TSEStore", "Verification"]
