"""The CUDA half of the native core, on torch's memory and streams; its only caller.

Rows (frames, time steps) lie on the device at multiples of 16 bytes, filled up with zeros. All
work is queued on torch's current stream, and nothing waits for it: memory that is given back
meanwhile is only taken again for work queued behind. Torch is imported when a device is opened, not
before.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid import _core
from skdejavid.sequences import SequenceView

if TYPE_CHECKING:
    import torch

__all__ = [
    "CudaDevice",
    "DeviceFrames",
    "DeviceProblem",
    "HostProblem",
    "ResidentFrames",
    "StreamedFrames",
    "adam_step",
    "device_of",
    "frames_on_device",
    "list_devices",
    "open_device",
    "require_device",
    "written_version",
]

_ROW_BYTES = 16  # rows begin at multiples of it
_WORKSPACE_BYTES = 2**28  # of costs, above which a problem is cut
_CHUNK_BYTES = 2**26  # of frames that are copied at once
_MOST_ROWS = 2**32 - 2  # of one array of frames, which kernels count in 32 bits
_COPY_THREADS = 4
_BATCHES_IN_FLIGHT = 2  # that a device computes with while the next ones are queued

_usable: set[int] = set()  # devices that this process has found no fault with
_opened: dict[str, CudaDevice] = {}
_cuda_began = False
_forked_after = False


def _note_fork() -> None:
    global _forked_after
    _forked_after = _forked_after or _cuda_began


os.register_at_fork(after_in_child=_note_fork)


def require_device(device: str) -> int:
    """The number of a device that is asked for as "cuda" or "cuda:N".

    Raises
    ------
    RuntimeError
        If there is no such device that this build can compute on; the message says what is missing.
    """
    wanted = f"device={device!r} was asked for, but"
    if not _core.built_with_cuda:
        raise RuntimeError(
            f"{wanted} this build of skdejavid has no CUDA backend (built_with_cuda=False): build "
            "it where nvcc is on PATH, with SKDEJAVID_CUDA=ON, or use device='cpu'"
        )
    if _forked_after:
        raise RuntimeError(
            f"{wanted} this process was forked from one that had used CUDA: start workers with "
            "joblib's 'loky' or multiprocessing's 'spawn'"
        )
    number = int(device.partition(":")[2] or 0)
    if number in _usable:
        return number
    devices, reason = list_devices()
    if not devices:
        driver = _core.cuda_driver_version()
        raise RuntimeError(
            f"{wanted} there is none: {reason or 'no CUDA device was found'} (driver for CUDA "
            f"{written_version(driver) if driver else 'not installed'}, this build uses CUDA "
            f"{written_version(_core.cuda_runtime_version())})"
        )
    if number >= len(devices):
        raise RuntimeError(
            f"{wanted} there are only {len(devices)} device(s), 'cuda:0' to "
            f"'cuda:{len(devices) - 1}'"
        )
    obstacle = _core.cuda_obstacle(number)
    if obstacle:
        name, major, minor, _ = devices[number]
        raise RuntimeError(f"{wanted} {name} (sm_{major}{minor}) cannot be used: {obstacle}")
    _require_torch(wanted)
    _usable.add(number)
    return number


def list_devices() -> tuple[list[tuple[str, int, int, int]], str]:
    """See `_core.cuda_devices`; if there are any, CUDA has begun in this process."""
    global _cuda_began
    devices, reason = _core.cuda_devices()
    _cuda_began = _cuda_began or bool(devices)
    return devices, reason


def _require_torch(wanted: str) -> None:
    import torch

    if torch.version.cuda is None:
        raise RuntimeError(
            f"{wanted} torch {torch.__version__} was built without CUDA, and its memory and "
            "streams are used: install a build of torch with CUDA"
        )
    if not torch.cuda.is_available():
        raise RuntimeError(f"{wanted} torch {torch.__version__} cannot use it")


def written_version(version: int) -> str:
    """Of CUDA: 13000 is 13.0."""
    return f"{version // 1000}.{version % 1000 // 10}"


def open_device(device: str) -> CudaDevice:
    """The device that is asked for as "cuda" or "cuda:N"; see `require_device`."""
    if device not in _opened or _forked_after:
        _opened[device] = CudaDevice(require_device(device))
    return _opened[device]


def device_of(tensor: torch.Tensor) -> CudaDevice | None:
    """The device that a tensor is on; None for the CPU."""
    return open_device(f"cuda:{tensor.device.index}") if tensor.is_cuda else None


class CudaDevice:
    """Memory and streams of one device, which are torch's."""

    def __init__(self, number: int) -> None:
        import torch

        self.torch = torch
        self.number = number
        self.place = torch.device("cuda", number)
        self._copies = torch.cuda.Stream(self.place)

    def stream(self) -> int:
        """The address of the stream on which work is queued now."""
        return int(self.torch.cuda.current_stream(self.place).cuda_stream)

    def free_bytes(self) -> int:
        """Memory that nobody uses, or that torch holds for later."""
        cuda = self.torch.cuda
        held = cuda.memory_reserved(self.place) - cuda.memory_allocated(self.place)
        return int(cuda.mem_get_info(self.place)[0] + held)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return self.torch.empty(shape, dtype=dtype, device=self.place)

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the host from which is copied without waiting.

        Torch takes it back only when copies out of it are made.
        """
        return self.torch.empty(shape, dtype=dtype, pin_memory=True)

    def upload(self, array: NDArray[Any]) -> torch.Tensor:
        """A copy on the device, queued on the current stream."""
        pinned = self.pinned(array.shape, self.dtype_of(array))
        pinned.numpy()[...] = array
        return pinned.to(self.place, non_blocking=True)

    def dtype_of(self, array: NDArray[Any]) -> torch.dtype:
        """Torch's name for the type of an array."""
        return self.torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype

    def upload_beside(self, pinned: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Starts a copy beside the current stream; what is returned gives the copy.

        It makes the stream that is current then wait for the copy, and not the host. The memory
        belongs to the stream of copies: it has to be told who else uses it.
        """
        cuda = self.torch.cuda
        with cuda.stream(self._copies):
            copy = pinned.to(self.place, non_blocking=True)
            is_there = self._copies.record_event()

        def receive() -> torch.Tensor:
            stream = cuda.current_stream(self.place)
            stream.wait_event(is_there)
            copy.record_stream(stream)
            return copy

        return receive

    def mark(self) -> Callable[[], None]:
        """A function that waits until everything that is queued now has been done."""
        return self.torch.cuda.current_stream(self.place).record_event().synchronize

    @contextmanager
    def room_for(self, n_bytes: int, advice: str) -> Iterator[None]:
        """Where memory is asked for: its lack becomes an error that names bytes and a remedy."""
        try:
            yield
        except self.torch.cuda.OutOfMemoryError as error:
            raise self.refusal(n_bytes, advice) from error

    def give_back_memory(self) -> None:
        """What torch holds for later, so that it can be taken in other sizes."""
        self.torch.cuda.empty_cache()

    def refusal(self, n_bytes: int, advice: str) -> MemoryError:
        return MemoryError(
            f"the CUDA device {self.place} has no room for {n_bytes} bytes "
            f"({self.free_bytes()} are free): {advice}"
        )

    # --- rows -------------------------------------------------------------------------------------

    def pitch(self, n_features: int, dtype: torch.dtype) -> int:
        """Numbers from the beginning of one row to that of the next."""
        per_row = _ROW_BYTES // dtype.itemsize
        return -(-n_features // per_row) * per_row

    def rows(self, array: NDArray[np.floating]) -> torch.Tensor:
        """A copy of rows, (..., pitch)."""
        n_features, dtype = array.shape[-1], self.dtype_of(array)
        pinned = self.pinned((*array.shape[:-1], self.pitch(n_features, dtype)), dtype)
        target = pinned.numpy()
        target[..., :n_features] = array
        target[..., n_features:] = 0
        return pinned.to(self.place, non_blocking=True)

    def padded(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the device as such rows; itself if it is that already."""
        n_features = tensor.shape[-1]
        missing = self.pitch(n_features, tensor.dtype) - n_features
        rows = tensor.detach()
        if missing:
            rows = self.torch.nn.functional.pad(rows, (0, missing))
        return rows.contiguous()

    def alias(self, array: NDArray[Any]) -> torch.Tensor:
        """The memory of an array as a tensor, to be read only."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return self.torch.from_numpy(array)


@dataclass(frozen=True)
class DeviceFrames:
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

    def part(self, begin: int, end: int) -> DeviceFrames:
        if (begin, end) == (0, len(self)):
            return self
        offsets = self.offsets[begin:end]
        return DeviceFrames(
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
        source = device.alias(sequences.values)
        for part in _parts(sequences.lengths, _CHUNK_BYTES // (shape[1] * dtype.itemsize)):
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

    def load(self, batches: list[NDArray[np.intp]]) -> Iterator[DeviceFrames]:
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
        self._source = device.alias(sequences.values)

    def load(self, batches: list[NDArray[np.intp]]) -> Iterator[DeviceFrames]:
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
                    in_flight.append(self._device.mark())
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
        self._device.give_back_memory()
        return None

    def _alone(self, batch: NDArray[np.intp]) -> torch.Tensor:
        n_frames = int(self._sequences.lengths[batch].sum())
        n_features = self._sequences.values.shape[1]
        n_bytes = n_frames * self._device.pitch(n_features, self._dtype) * self._dtype.itemsize
        with self._device.room_for(n_bytes, "lower batch_size, or cut long sequences"):
            return self._send(batch)()

    def _send(self, batch: NDArray[np.intp]) -> Callable[[], torch.Tensor]:
        starts, lengths = self._sequences.starts[batch], self._sequences.lengths[batch]
        chunk = _gather(self._device, self._source, starts, lengths, self._dtype)
        return self._device.upload_beside(chunk)


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
) -> DeviceFrames:
    """A view of rows that are on the device."""
    places = device.upload(np.stack([starts, lengths, np.cumsum(lengths) - lengths]))
    return DeviceFrames(values, places[0], places[1], places[2], lengths)


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


def _parts(lengths: NDArray[np.int64], most_frames: float) -> list[slice]:
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


class DeviceProblem:
    """The problem of `skdejavid.alignment.make_problem` on a device, in tensors.

    Its results are those of the native core; distances and coefficients are float64, of shape
    (n_sequences, n_centroids).
    """

    def __init__(
        self,
        device: CudaDevice,
        frames: DeviceFrames,
        centroids: torch.Tensor,  # (n_centroids, n_timesteps, pitch)
        weights: torch.Tensor,  # the same shape
        n_features: int,
    ) -> None:
        self._device, self._frames, self._n_features = device, frames, n_features
        self._centroids, self._weights = centroids, weights
        kinds = {
            device.torch.float16: _core.CudaProblemFloat16,
            device.torch.float32: _core.CudaProblemFloat32,
            device.torch.float64: _core.CudaProblemFloat64,
        }
        self._native = kinds[frames.values.dtype]

    def distances(self, diagonal: bool) -> torch.Tensor:
        return self._align(diagonal, with_runs=False)[0]

    def paths(self, diagonal: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances, and runs (n_sequences, n_centroids, n_timesteps, 2), int32."""
        return self._align(diagonal, with_runs=True)

    def distances_along(self, runs: torch.Tensor) -> torch.Tensor:
        torch = self._device.torch
        distances = self._device.empty(self._pairs_shape(), torch.float64)

        def compute(frames: DeviceFrames, begin: int, end: int) -> None:
            problem = self._problem(frames)
            workspace = self._workspace(problem.along_bytes())
            problem.distances_along(
                runs[begin:end].data_ptr(), distances[begin:end].data_ptr(), workspace.data_ptr()
            )

        n_rows = self._centroids.shape[0] * self._centroids.shape[1]
        parts_per_row = -(-self._n_features // 64)
        self._in_parts(compute, n_rows * parts_per_row * 8, per_frame=False)
        return distances

    def parameter_gradients(
        self,
        runs: torch.Tensor,
        grad_distances: torch.Tensor,
        out: tuple[torch.Tensor, torch.Tensor] | None = None,
        *,
        adds: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients by centroids and weights: new tensors, or those of `out`, or added to these."""
        if out is None:
            zeros = self._device.torch.zeros_like
            out = zeros(self._centroids), zeros(self._weights)
        self._problem(self._frames).parameter_gradients(
            runs.data_ptr(), grad_distances.data_ptr(), adds, out[0].data_ptr(), out[1].data_ptr()
        )
        return out

    def sequence_gradients(self, runs: torch.Tensor, grad_distances: torch.Tensor) -> torch.Tensor:
        """The gradient by the frames, one sequence after the other, (n_frames, pitch)."""
        shape = self._frames.n_frames, self._centroids.shape[2]
        gradients = self._device.empty(shape, self._centroids.dtype)
        self._problem(self._frames).sequence_gradients(
            runs.data_ptr(), grad_distances.data_ptr(), gradients.data_ptr()
        )
        return gradients

    def barycenters(self, runs: torch.Tensor, sample_weights: torch.Tensor) -> torch.Tensor:
        means = self._device.torch.zeros_like(self._centroids)
        self._problem(self._frames).barycenters(
            runs.data_ptr(), sample_weights.data_ptr(), means.data_ptr()
        )
        return means

    def _pairs_shape(self) -> tuple[int, int]:
        return len(self._frames), self._centroids.shape[0]

    def _align(self, diagonal: bool, *, with_runs: bool) -> tuple[torch.Tensor, torch.Tensor]:
        torch = self._device.torch
        distances = self._device.empty(self._pairs_shape(), torch.float64)
        n_timesteps = self._centroids.shape[1] if with_runs else 0
        runs = self._device.empty((*self._pairs_shape(), n_timesteps, 2), torch.int32)

        def compute(frames: DeviceFrames, begin: int, end: int) -> None:
            problem = self._problem(frames)
            workspace = self._workspace(problem.align_bytes(with_runs))
            problem.align(
                diagonal,
                distances[begin:end].data_ptr(),
                runs[begin:end].data_ptr() if with_runs else 0,
                workspace.data_ptr(),
            )

        n_rows = self._centroids.shape[0] * self._centroids.shape[1]
        self._in_parts(compute, n_rows * self._centroids.dtype.itemsize, per_frame=True)
        return distances, runs

    def _in_parts(
        self, compute: Callable[[DeviceFrames, int, int], None], n_bytes: int, *, per_frame: bool
    ) -> None:
        """Compute of all sequences, some at a time: those whose workspace stays below a bound.

        The bound is halved as long as there is no memory for it, down to single sequences. What was
        computed before is computed again.
        """
        lengths = self._frames.host_lengths
        counted = lengths if per_frame else np.ones_like(lengths)
        bound = _WORKSPACE_BYTES
        while True:
            parts = _parts(counted, bound / n_bytes)
            try:
                for part in parts:
                    compute(self._frames.part(part.start, part.stop), part.start, part.stop)
                return
            except self._device.torch.cuda.OutOfMemoryError as error:
                if len(parts) == len(lengths):
                    advice = "lower n_timesteps, or cut long sequences"
                    raise self._device.refusal(self._wanted_bytes, advice) from error
            # Only here is what the failed attempt held let go of.
            bound = min(bound, int(counted.sum()) * n_bytes) // 2
            self._device.give_back_memory()

    def _workspace(self, n_bytes: int) -> torch.Tensor:
        self._wanted_bytes = n_bytes
        return self._device.empty((n_bytes,), self._device.torch.uint8)

    def _problem(self, frames: DeviceFrames) -> Any:
        n_centroids, n_timesteps, pitch = self._centroids.shape
        return self._native(
            device=self._device.number,
            stream=self._device.stream(),
            values=frames.values.data_ptr(),
            value_pitch=frames.values.shape[1],
            starts=frames.starts.data_ptr(),
            lengths=frames.lengths.data_ptr(),
            offsets=frames.offsets.data_ptr(),
            n_sequences=len(frames),
            n_frames=frames.n_frames,
            longest=int(frames.host_lengths.max()),
            centroids=self._centroids.data_ptr(),
            weights=self._weights.data_ptr(),
            parameter_pitch=pitch,
            n_centroids=n_centroids,
            n_timesteps=n_timesteps,
            n_features=self._n_features,
        )


class HostProblem:
    """The problem of `skdejavid.alignment.make_problem`, computed on a device, in NumPy's arrays.

    The sequences are copied to the device for each call, some at a time.
    """

    def __init__(
        self,
        device: CudaDevice,
        sequences: SequenceView,
        centroids: NDArray[np.floating],
        weights: NDArray[np.floating],
    ) -> None:
        self._device, self._sequences = device, sequences
        self._shape = centroids.shape
        self._dtype = device.dtype_of(centroids)
        with device.room_for(2 * centroids.nbytes, "use fewer or shorter centroids"):
            self._parameters = device.rows(centroids), device.rows(weights)

    def distances(self, diagonal: bool) -> NDArray[np.float64]:
        distances = np.empty(self._pairs_shape())
        for part, problem in self._problems():
            distances[part] = problem.distances(diagonal).cpu()
        return distances

    def paths(self, diagonal: bool) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        distances = np.empty(self._pairs_shape())
        runs = np.empty((*self._pairs_shape(), self._shape[1], 2), dtype=np.int32)
        for part, problem in self._problems():
            some_distances, some_runs = problem.paths(diagonal)
            distances[part], runs[part] = some_distances.cpu(), some_runs.cpu()
        return distances, runs

    def distances_along(self, runs: NDArray[np.int32]) -> NDArray[np.float64]:
        distances = np.empty(self._pairs_shape())
        for part, problem in self._problems():
            distances[part] = problem.distances_along(self._device.upload(runs[part])).cpu()
        return distances

    def parameter_gradients(
        self,
        runs: NDArray[np.int32],
        grad_distances: NDArray[np.float64],
        out: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        zeros = self._device.torch.zeros_like
        sums = zeros(self._parameters[0]), zeros(self._parameters[1])
        for part, problem in self._problems():
            uploaded = self._device.upload(runs[part]), self._device.upload(grad_distances[part])
            problem.parameter_gradients(*uploaded, sums, adds=True)
        gradients = self._without_padding(sums[0]), self._without_padding(sums[1])
        if out is None:
            return gradients
        for target, gradient in zip(out, gradients, strict=True):
            target[...] = gradient
        return out

    def sequence_gradients(
        self, runs: NDArray[np.int32], grad_distances: NDArray[np.float64]
    ) -> NDArray[np.floating]:
        gradients = []
        for part, problem in self._problems():
            uploaded = self._device.upload(runs[part]), self._device.upload(grad_distances[part])
            gradients.append(self._without_padding(problem.sequence_gradients(*uploaded)))
        return np.concatenate(gradients)

    def barycenters(
        self, runs: NDArray[np.int32], sample_weights: NDArray[np.float64]
    ) -> NDArray[np.floating]:
        everything = ResidentFrames(self._device, self._sequences, self._dtype)
        (frames,) = everything.load([np.arange(len(self._sequences.lengths))])
        uploaded = self._device.upload(runs), self._device.upload(sample_weights)
        return self._without_padding(self._problem(frames).barycenters(*uploaded))

    def _pairs_shape(self) -> tuple[int, int]:
        return len(self._sequences.lengths), self._shape[0]

    def _problems(self) -> Iterator[tuple[slice, DeviceProblem]]:
        row_bytes = self._parameters[0].shape[2] * self._dtype.itemsize
        parts = _parts(self._sequences.lengths, _CHUNK_BYTES / row_bytes)
        streamed = StreamedFrames(self._device, self._sequences, self._dtype)
        batches = [np.arange(part.start, part.stop) for part in parts]
        for part, frames in zip(parts, streamed.load(batches), strict=True):
            yield part, self._problem(frames)

    def _problem(self, frames: DeviceFrames) -> DeviceProblem:
        return DeviceProblem(self._device, frames, *self._parameters, self._shape[2])

    def _without_padding(self, rows: torch.Tensor) -> NDArray[np.floating]:
        array: NDArray[np.floating] = rows[..., : self._shape[2]].cpu().numpy()
        return np.ascontiguousarray(array)


def adam_step(
    device: CudaDevice,
    parameters: torch.Tensor,
    gradients: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    scale: torch.Tensor | None,
    n_features: int,
    learning_rate: float,
    n_steps: int,
) -> None:
    """`skdejavid.alignment.adam_step` of tensors (n_centroids, n_timesteps, pitch)."""
    is_single = parameters.dtype == device.torch.float32
    step = _core.cuda_adam_step_float32 if is_single else _core.cuda_adam_step_float64
    step(
        device=device.number,
        stream=device.stream(),
        parameters=parameters.data_ptr(),
        gradients=gradients.data_ptr(),
        first_moments=moments[0].data_ptr(),
        second_moments=moments[1].data_ptr(),
        scale=0 if scale is None else scale.data_ptr(),
        n_rows=math.prod(parameters.shape[:-1]),
        pitch=parameters.shape[-1],
        n_features=n_features,
        learning_rate=learning_rate,
        n_steps=n_steps,
    )
