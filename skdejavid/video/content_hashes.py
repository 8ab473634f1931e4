"""Hashes of large contents, computed again only if a checksum of all bytes has changed."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["hash_of_array", "hash_of_tensor"]

_BLOCK = 2**17  # words of 8 bytes

# Smaller contents are hashed in the time in which a checksum is computed.
_WORTH_A_CHECKSUM = 2**16

# Length, checksum and last bytes of contents to their hash. It does not matter whose they are, so a
# copy of a module, or the module loaded again, need not be hashed again.
_hashes: dict[tuple[int, bytes, bytes], bytes] = {}
_MOST_HASHES = 2**14


def hash_of_tensor(tensor: torch.Tensor) -> bytes:
    """Return SHA-256 of the numbers of a dense tensor, on any device and with any strides."""
    flat = tensor.resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8)
    n_bytes = len(flat)
    if n_bytes < _WORTH_A_CHECKSUM or flat.device.type == "cpu":
        return hash_of_array(flat.cpu().numpy())
    if flat.storage_offset() % 8:
        flat = flat.clone()
    words, rest = flat[: n_bytes // 8 * 8].view(torch.int64), flat[n_bytes // 8 * 8 :]
    key = n_bytes, _checksum_on_device(words), rest.cpu().numpy().tobytes()
    return _hashes.get(key) or _remember(key, flat.cpu().numpy())


def hash_of_array(array: NDArray[Any]) -> bytes:
    """Return SHA-256 of the numbers of an array, with any strides."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    n_bytes = len(flat)
    if n_bytes < _WORTH_A_CHECKSUM:
        return sha256(flat.data).digest()
    words, rest = flat[: n_bytes // 8 * 8].view(np.int64), flat[n_bytes // 8 * 8 :]
    key = n_bytes, _checksum(words), rest.tobytes()
    return _hashes.get(key) or _remember(key, flat)


def _remember(key: tuple[int, bytes, bytes], content: NDArray[np.uint8]) -> bytes:
    if len(_hashes) >= _MOST_HASHES:
        _hashes.clear()
    _hashes[key] = sha256(content.data).digest()
    return _hashes[key]


# The checksum of a block is a pair of sums, modulo 2**64, of its words and of the higher halves of
# its words, each multiplied by a random weight of its place. Weights are odd, so changing one word
# always changes the first sum. Any other change leaves a pair as it is with a probability of 2**-32
# or less, whatever is changed, since nobody knows the weights: the signs or the order of many
# numbers as well, which plain sums may miss. This runs several times as fast as SHA-256.


@lru_cache(maxsize=1)
def _weights() -> NDArray[np.int64]:
    """Return weights (2, _BLOCK); they differ from process to process."""
    return np.random.default_rng().integers(-(2**63), 2**63, (2, _BLOCK), dtype=np.int64) | 1


def _checksum(words: NDArray[np.int64]) -> bytes:
    weights, products = _weights(), np.empty(_BLOCK, np.int64)
    sums = []
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        n, buffer = len(block), products[: len(block)]
        np.multiply(block, weights[0, :n], out=buffer)
        sums.append(buffer.sum())
        np.right_shift(block, 32, out=buffer)
        buffer *= weights[1, :n]
        sums.append(buffer.sum())
    return sha256(np.array(sums, dtype=np.int64).data).digest()


def _checksum_on_device(words: torch.Tensor) -> bytes:
    """Return the same as `_checksum`, computed where the words are."""
    weights = torch.from_numpy(_weights()).to(words.device)
    sums = []
    for block in words.split(_BLOCK):
        sums.append((block * weights[0, : len(block)]).sum())
        sums.append(((block >> 32) * weights[1, : len(block)]).sum())
    return sha256(torch.stack(sums).cpu().numpy().data).digest()
