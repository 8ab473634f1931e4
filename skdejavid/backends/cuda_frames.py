"""Frames of sequences on a CUDA device: resident, or streamed to it batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.cuda_device import CudaDevice
from skdejavid.compat.tensors import as_tensor
from skdejavid.sequences import SequenceView
from skdejavid.sequences.layout import starts_of

if TYPE_CHECKING:
    import torch

__all__ = [
    "CHUNK_BYTES",
    "CudaFrames",
    "ResidentFrames",
    "StreamedFrames",
    "make_frames",
    "split_by_frames",
]

CHUNK_BYTES = 2**26  # of frames that are copied in one piece
_MAX_ROWS = 2**32 - 2  # of one array of frames, whose rows kernels count in 32 bits
_COPY_THREADS = 4
_BATCHES_IN_FLIGHT = 2  # batches on the device before the host waits for the oldest


@dataclass(frozen=True)
class CudaFrames:
    """A selection of sequences whose frames are on a device."""

    values: torch.Tensor  # (n_rows, pitch)
    starts: torch.Tensor  # (n_sequences,), int64
    lengths: torch.Tensor  # (n_sequences,), int64
    offsets: torch.Tensor  # (n_sequences,), int64: sums of all previous lengths
    host_lengths: NDArray[np.int64]  # a copy of the lengths that is read without waiting

    def __len__(self) -> int:
        return len(self.host_lengths)

    @property
    def n_frames(self) -> int:
        """Number of frames of all sequences."""
        return int(self.host_lengths.sum())

    def part(self, begin: int, end: int) -> CudaFrames:
        """Return the sequences from number `begin` to `end` (excluded); frames are not copied."""
        if (begin, end) == (0, len(self)):
            return self
        offsets = self.offsets[begin:end]
        return CudaFrames(
            self.values,
            self.starts[begin:end],
            self.lengths[begin:end],
            offsets - offsets[:1],
            self.host_lengths[begin:end],
        )


class ResidentFrames:
    """All sequences of a view, copied to a device once.

    Parameters
    ----------
    device : CudaDevice
    sequences : SequenceView
    dtype : torch.dtype
        Floating type of the frames on the device.
    """

    def __init__(self, device: CudaDevice, sequences: SequenceView, dtype: torch.dtype) -> None:
        self._device = device
        self._lengths = sequences.lengths
        self._starts = starts_of(sequences.lengths)
        n_features = sequences.values.shape[1]
        shape = int(self._lengths.sum()), device.pitch(n_features, dtype)
        self._values = device.empty(shape, dtype)
        for part in split_by_frames(sequences.lengths, CHUNK_BYTES // (shape[1] * dtype.itemsize)):
            chunk = _gather(device, sequences, part, dtype)
            begin = int(self._starts[part.start])
            self._values[begin : begin + len(chunk)].copy_(chunk, non_blocking=True)

    @staticmethod
    def fits(
        device: CudaDevice, sequences: SequenceView, dtype: torch.dtype, kept_free: int
    ) -> bool:
        """Return whether all frames fit on the device and leave `kept_free` bytes free."""
        n_rows = int(sequences.lengths.sum())
        row_bytes = device.pitch(sequences.values.shape[1], dtype) * dtype.itemsize
        return n_rows <= _MAX_ROWS and n_rows * row_bytes + kept_free <= device.free_bytes()

    def iter_batches(self, batches: list[NDArray[np.intp]]) -> Iterator[CudaFrames]:
        """Yield the sequences of each batch of indices."""
        for batch in batches:
            starts, lengths = self._starts[batch], self._lengths[batch]
            yield make_frames(self._device, self._values, starts, lengths)


class StreamedFrames:
    """Sequences of a view whose batches are copied to a device while it computes on previous ones.

    Parameters
    ----------
    device, sequences, dtype
        As for `ResidentFrames`.
    """

    def __init__(self, device: CudaDevice, sequences: SequenceView, dtype: torch.dtype) -> None:
        self._device, self._sequences, self._dtype = device, sequences, dtype

    def iter_batches(self, batches: list[NDArray[np.intp]]) -> Iterator[CudaFrames]:
        """Yield the sequences of each batch of indices.

        The caller must have queued its work on a batch before it asks for the next one.
        """
        # The device must always have work, and memory must not grow with the number of batches.
        # Threads gather the frames of the next batches (`pending`) in pinned memory and copy them
        # on a second stream; one more batch is pending than there are threads, so that no thread is
        # idle. Kernels are only queued, so the host could run ahead and fill the device
        # with copies: each batch records an event behind its kernels (`in_flight`), and before the
        # host fetches another batch, it waits for all events but the last.
        lengths = self._sequences.lengths
        max_pending = _COPY_THREADS + 1
        pending: deque[Future[Callable[[], torch.Tensor]]] = deque()
        in_flight: deque[Callable[[], None]] = deque()
        with ThreadPoolExecutor(min(_COPY_THREADS, len(batches))) as threads:
            try:
                for k, batch in enumerate(batches):
                    while len(pending) < max_pending and k + len(pending) < len(batches):
                        pending.append(threads.submit(self._start_copy, batches[k + len(pending)]))
                    values = self._receive(pending)
                    if values is None:  # the device cannot store several batches: one at a time
                        max_pending = 1
                        values = self._copy_alone(batch)
                    starts = starts_of(lengths[batch])
                    yield make_frames(self._device, values, starts, lengths[batch])
                    del values  # else it would stay allocated until the next batch has arrived
                    in_flight.append(self._device.record_event())
                    if len(in_flight) == _BATCHES_IN_FLIGHT:
                        in_flight.popleft()()
            finally:
                _cancel(pending)

    def _receive(self, pending: deque[Future[Callable[[], torch.Tensor]]]) -> torch.Tensor | None:
        """Return the frames of the first pending batch.

        Cancel all pending batches and return None if memory on the device has run out.
        """
        try:
            return pending.popleft().result()()
        except self._device.torch.cuda.OutOfMemoryError:
            _cancel(pending)
        # After the `except` block, because the exception keeps the failed copy's tensors alive.
        self._device.empty_cache()
        return None

    def _copy_alone(self, batch: NDArray[np.intp]) -> torch.Tensor:
        """Return the frames of a batch while no other batch is pending, or raise MemoryError."""
        n_frames = int(self._sequences.lengths[batch].sum())
        n_features = self._sequences.values.shape[1]
        n_bytes = n_frames * self._device.pitch(n_features, self._dtype) * self._dtype.itemsize
        with self._device.explain_oom(n_bytes, "lower batch_size, or cut long sequences"):
            return self._start_copy(batch)()

    def _start_copy(self, batch: NDArray[np.intp]) -> Callable[[], torch.Tensor]:
        chunk = _gather(self._device, self._sequences, batch, self._dtype)
        return self._device.upload_async(chunk)


def _cancel(pending: deque[Future[Callable[[], torch.Tensor]]]) -> None:
    """Empty the queue; copies that have begun are waited for, so that no thread is left."""
    while pending:
        future = pending.popleft()
        if not future.cancel():
            wait([future])


def make_frames(
    device: CudaDevice,
    values: torch.Tensor,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> CudaFrames:
    """Return the sequences that begin at the rows `starts` of `values` (n_rows, pitch)."""
    index = device.upload(np.stack([starts, lengths, starts_of(lengths)]))
    return CudaFrames(values, index[0], index[1], index[2], lengths)


def _gather(
    device: CudaDevice,
    sequences: SequenceView,
    selection: slice | NDArray[np.intp],
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return the frames of selected sequences, in order, as padded rows in pinned memory.

    They are copied with torch, which converts to half precision nine times as fast as NumPy.
    """
    source = as_tensor(sequences.values)
    starts, lengths = sequences.starts[selection], sequences.lengths[selection]
    n_features = source.shape[1]
    rows = device.pinned((int(lengths.sum()), device.pitch(n_features, dtype)), dtype)
    rows[:, n_features:] = 0
    end = 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        rows[end : end + length, :n_features] = source[start : start + length]
        end += length
    return rows


def split_by_frames(lengths: NDArray[np.int64], max_frames: float) -> list[slice]:
    """Return slices of consecutive sequences that have at most `max_frames` frames in all.

    A longer sequence has a slice of its own.
    """
    limits = [0]
    n_frames = 0
    for i, length in enumerate(lengths.tolist()):
        if n_frames + length > max_frames and i > limits[-1]:
            limits.append(i)
            n_frames = 0
        n_frames += length
    limits.append(len(lengths))
    return [slice(begin, end) for begin, end in pairwise(limits)]
