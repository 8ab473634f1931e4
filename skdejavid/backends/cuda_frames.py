"""Sequences on a CUDA device: all of them for good, or batches that are copied in time."""

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
from skdejavid.sequences import SequenceView

if TYPE_CHECKING:
    import torch

__all__ = [
    "CHUNK_BYTES",
    "CudaFrames",
    "ResidentFrames",
    "StreamedFrames",
    "frames_on_device",
    "parts_of",
]

CHUNK_BYTES = 2**26  # of frames that are copied at once
_MOST_ROWS = 2**32 - 2  # of one array of frames, which kernels count in 32 bits
_COPY_THREADS = 4
_BATCHES_IN_FLIGHT = 2  # that a device computes with while the next ones are queued


@dataclass(frozen=True)
class CudaFrames:
    """Sequences on a device: a view of rows, of which any part is one again."""

    values: torch.Tensor  # (n_rows, pitch)
    starts: torch.Tensor  # (n_sequences,), int64
    lengths: torch.Tensor  # (n_sequences,), int64
    offsets: torch.Tensor  # (n_sequences,), int64: sums of the lengths before
    host_lengths: NDArray[np.int64]  # the lengths again, known without waiting

    def __len__(self) -> int:
        return len(self.host_lengths)

    @property
    def n_frames(self) -> int:
        return int(self.host_lengths.sum())

    def part(self, begin: int, end: int) -> CudaFrames:
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
    """All sequences of a view, on the device for as long as this lives."""

    def __init__(self, device: CudaDevice, sequences: SequenceView, dtype: torch.dtype) -> None:
        self._device = device
        self._lengths = sequences.lengths
        self._starts = np.cumsum(sequences.lengths) - sequences.lengths
        n_features = sequences.values.shape[1]
        shape = int(self._lengths.sum()), device.pitch(n_features, dtype)
        self._values = device.empty(shape, dtype)
        source = device.as_tensor(sequences.values)
        for part in parts_of(sequences.lengths, CHUNK_BYTES // (shape[1] * dtype.itemsize)):
            starts, lengths = sequences.starts[part], sequences.lengths[part]
            chunk = _gather(device, source, starts, lengths, dtype)
            begin = int(self._starts[part.start])
            self._values[begin : begin + len(chunk)].copy_(chunk, non_blocking=True)

    @staticmethod
    def fits(
        device: CudaDevice, sequences: SequenceView, dtype: torch.dtype, kept_free: int
    ) -> bool:
        """Whether there is memory for them, and so much more."""
        n_rows = int(sequences.lengths.sum())
        row_bytes = device.pitch(sequences.values.shape[1], dtype) * dtype.itemsize
        return n_rows <= _MOST_ROWS and n_rows * row_bytes + kept_free <= device.free_bytes()

    def load(self, batches: list[NDArray[np.intp]]) -> Iterator[CudaFrames]:
        """The sequences of one batch after the other."""
        for batch in batches:
            starts, lengths = self._starts[batch], self._lengths[batch]
            yield frames_on_device(self._device, self._values, starts, lengths)


class StreamedFrames:
    """Sequences of a view that are copied to the device in time, while others are computed with.

    Threads gather the frames of coming batches in memory from which the device copies on a stream
    of its own.
    """

    def __init__(self, device: CudaDevice, sequences: SequenceView, dtype: torch.dtype) -> None:
        self._device, self._sequences, self._dtype = device, sequences, dtype
        self._source = device.as_tensor(sequences.values)

    def load(self, batches: list[NDArray[np.intp]]) -> Iterator[CudaFrames]:
        """The sequences of one batch after the other.

        Whoever asks for a batch has queued the work with the one before. It is given only when the
        device has done all but the last of it, so that batches do not pile up there.
        """
        lengths = self._sequences.lengths
        most_coming = _COPY_THREADS + 1
        coming: deque[Future[Callable[[], torch.Tensor]]] = deque()
        in_flight: deque[Callable[[], None]] = deque()
        with ThreadPoolExecutor(min(_COPY_THREADS, len(batches))) as threads:
            try:
                for k, batch in enumerate(batches):
                    while len(coming) < most_coming and k + len(coming) < len(batches):
                        coming.append(threads.submit(self._send, batches[k + len(coming)]))
                    values = self._received(coming)
                    if values is None:  # no room for so many at once
                        most_coming = 1
                        values = self._alone(batch)
                    starts = np.cumsum(lengths[batch]) - lengths[batch]
                    yield frames_on_device(self._device, values, starts, lengths[batch])
                    del values
                    in_flight.append(self._device.record_event())
                    if len(in_flight) == _BATCHES_IN_FLIGHT:
                        in_flight.popleft()()
            finally:
                _forget(coming)

    def _received(self, coming: deque[Future[Callable[[], torch.Tensor]]]) -> torch.Tensor | None:
        """The first that comes; if there was no memory for it, none, and the others are dropped."""
        try:
            return coming.popleft().result()()
        except self._device.torch.cuda.OutOfMemoryError:
            _forget(coming)
        self._device.empty_cache()
        return None

    def _alone(self, batch: NDArray[np.intp]) -> torch.Tensor:
        n_frames = int(self._sequences.lengths[batch].sum())
        n_features = self._sequences.values.shape[1]
        n_bytes = n_frames * self._device.pitch(n_features, self._dtype) * self._dtype.itemsize
        with self._device.explain_oom(n_bytes, "lower batch_size, or cut long sequences"):
            return self._send(batch)()

    def _send(self, batch: NDArray[np.intp]) -> Callable[[], torch.Tensor]:
        starts, lengths = self._sequences.starts[batch], self._sequences.lengths[batch]
        chunk = _gather(self._device, self._source, starts, lengths, self._dtype)
        return self._device.upload_async(chunk)


def _forget(coming: deque[Future[Callable[[], torch.Tensor]]]) -> None:
    """Nothing of what was asked for is wanted any more."""
    while coming:
        future = coming.popleft()
        if not future.cancel():
            wait([future])


def frames_on_device(
    device: CudaDevice,
    values: torch.Tensor,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> CudaFrames:
    """A view of rows that are on the device."""
    places = device.upload(np.stack([starts, lengths, np.cumsum(lengths) - lengths]))
    return CudaFrames(values, places[0], places[1], places[2], lengths)


def _gather(
    device: CudaDevice,
    source: torch.Tensor,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    dtype: torch.dtype,
) -> torch.Tensor:
    """The frames of sequences one after the other, padded, in memory that a device copies from.

    Copied with torch, which makes half precision nine times as fast as NumPy.
    """
    n_features = source.shape[1]
    rows = device.pinned((int(lengths.sum()), device.pitch(n_features, dtype)), dtype)
    rows[:, n_features:] = 0
    end = 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        rows[end : end + length, :n_features] = source[start : start + length]
        end += length
    return rows


def parts_of(lengths: NDArray[np.int64], most_frames: float) -> list[slice]:
    """Neighboring sequences of together at most so many frames, or one alone."""
    limits = [0]
    n_frames = 0
    for i, length in enumerate(lengths.tolist()):
        if n_frames + length > most_frames and i > limits[-1]:
            limits.append(i)
            n_frames = 0
        n_frames += length
    limits.append(len(lengths))
    return [slice(begin, end) for begin, end in pairwise(limits)]
