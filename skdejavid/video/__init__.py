"""Decoding videos, cutting windows, and encoding them into sequences of embeddings."""
