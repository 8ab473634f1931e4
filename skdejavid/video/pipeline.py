"""Encoding videos batch by batch, while threads read clips ahead of the encoder.

Batches contain clips in the order of the videos, possibly of several videos. The clips of a batch
depend only on the clips before it. A pass that resumes after the last committed batch therefore
forms the same batches, and gives the same numbers to the bit, as a pass without interruption.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skdejavid.store import Failure, FileIdentity
from skdejavid.video.clips import ClipSpec, check_cost, read_clips
from skdejavid.video.opening import RefusedVideoError
from skdejavid.video.prefetch import End, iterate_ahead
from skdejavid.video.sources import Source
from skdejavid.video.unchanged import is_of_the_file, read_unchanged
from skdejavid.video.windows import WindowPlan

__all__ = ["Extraction", "InMemory", "Sink"]


_BYTES_AHEAD = 2**27  # maximum size of clips that wait for the encoder

_Embeddings = NDArray[np.floating]
_Spans = NDArray[np.float64]


class Sink(Protocol):
    """Destination of sequences; `skdejavid.store.StoreWriter` documents the methods."""

    @property
    def records_content(self) -> bool: ...

    @property
    def partial(self) -> tuple[str, _Embeddings] | None: ...

    def file(self, id: str, /) -> FileIdentity: ...

    def append(
        self,
        id: str,
        values: _Embeddings,
        spans: _Spans,
        n_bytes: int | None,
        position: int,
        modified_ns: int | None,
        content_hash: str | None,
        /,
    ) -> None: ...

    def fail(
        self,
        id: str,
        cause: str,
        frame: int | None,
        n_bytes: int | None,
        modified_ns: int | None,
        content_hash: str | None,
        may_pass: bool,
        /,
    ) -> None: ...

    def write_partial(self, id: str, values: _Embeddings, content_hash: str | None, /) -> None: ...

    def discard_partial(self) -> None: ...

    def commit(self) -> None: ...


class InMemory:
    """Sink that keeps sequences in memory."""

    records_content = False
    partial: tuple[str, _Embeddings] | None = None

    def __init__(self) -> None:
        self.sequences: dict[str, tuple[_Embeddings, _Spans]] = {}
        self.failures: dict[str, Failure] = {}

    def append(self, id: str, values: _Embeddings, spans: _Spans, *_: object) -> None:
        """Keep a sequence and its spans."""
        self.sequences[id] = values, spans

    def fail(self, id: str, cause: str, frame: int | None, n_bytes: int | None, *_: object) -> None:
        """Keep the failure of a video."""
        self.failures[id] = Failure(id, frame, cause, n_bytes)

    def file(self, id: str) -> FileIdentity:
        """Return what is known of the file of a partial sequence, of which there is none."""
        return FileIdentity()

    def _do_nothing(self, *_: object) -> None:
        """Ignore the call: an interrupted extraction into memory is lost and never resumed."""

    write_partial = discard_partial = commit = _do_nothing


class _NotFiniteError(ValueError):
    """Error raised if an embedding contains NaN or infinity."""


# Errors caused by one video, which `on_error` may skip. All others end the extraction.
_VIDEO_ERRORS = (OSError, RefusedVideoError, _NotFiniteError)


@dataclass
class _OpenVideo:
    """A video some of whose clips are not encoded yet."""

    plan: WindowPlan
    n_to_skip: int = 0  # clips encoded before the interruption
    is_read: bool = False  # whether all clips were read
    embeddings: list[_Embeddings] = field(default_factory=list)

    @property
    def n_encoded(self) -> int:
        return sum(map(len, self.embeddings))

    @property
    def is_complete(self) -> bool:
        return self.is_read and self.n_encoded == len(self.plan.clip_frames)

    def first_window_of(self, clip: int) -> int:
        """Return the first window that contains a clip."""
        return int(np.argwhere(self.plan.window_clips == clip)[0, 0])


class Extraction:
    """One pass over videos.

    Parameters
    ----------
    sources : sequence of Source
        The videos, in order.
    spec : ClipSpec
        Windows and frame size.
    encode : callable
        Returns the embeddings (n_clips, n_features) of a sequence of clips of one shape.
    sink : Sink
        Destination of the sequences. Its partial sequence, if any, contains the embeddings of the
        first clips of ``sources[0]``; these clips are not encoded again.
    batch_size : int
        Number of clips per call of `encode`.
    on_error : {"raise", "skip", "warn"}
        Handling of videos that cannot be read or have embeddings that are not finite.
    progress : callable
        Called without arguments after each video.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        spec: ClipSpec,
        encode: Callable[[Sequence[NDArray[np.uint8]]], _Embeddings],
        sink: Sink,
        *,
        batch_size: int,
        on_error: str,
        progress: Callable[[], object],
    ) -> None:
        self._sources = sources
        self._spec = spec
        self._encode = encode
        self._sink = sink
        self._batch_size = batch_size
        self._on_error = on_error
        self._progress = progress
        self._batch: list[tuple[int, NDArray[np.uint8]]] = []  # index of the video, clip
        self._open_videos: dict[int, _OpenVideo] = {}
        self._skipped: set[int] = set()
        self._files: dict[int, FileIdentity] = {}
        self._n_features: int | None = None

    def run(self, n_threads: int) -> None:
        """Encode all videos, reading `n_threads` of them at the same time.

        Raises
        ------
        FileNotFoundError, VideoDecodeError, RefusedVideoError
            If a video cannot be read and `on_error` is "raise".
        ValueError
            If an embedding is not finite and `on_error` is "raise", or the number of features
            changes.
        """
        per_video = max(1, n_threads // max(1, len(self._sources)))
        read = partial(
            read_unchanged,
            read=partial(read_clips, spec=self._spec, n_threads=per_video),
            has_content=self._sink.records_content,
        )
        videos = [source.video for source in self._sources]
        ahead = iterate_ahead(
            videos, read, n_threads=n_threads, capacity=_BYTES_AHEAD, size=_size_of
        )
        # Must be closed after errors too: threads waiting for room would keep the process alive.
        with closing(ahead):
            for i, item in ahead:
                if i in self._skipped:
                    continue
                if isinstance(item, FileIdentity):
                    self._files[i] = item
                elif isinstance(item, WindowPlan):
                    self._start_video(i, item)
                elif isinstance(item, End):
                    self._end_video(i, item.error)
                else:
                    self._add_clip(i, item)
        self._encode_batch()

    def _start_video(self, i: int, plan: WindowPlan) -> None:
        """Start a video, or restart it with another plan if its first plan was wrong."""
        self._drop_clips(i)
        video = self._open_videos[i] = _OpenVideo(plan)
        stored = self._sink.partial
        if stored is None or stored[0] != self._sources[i].id:
            return
        is_resumed = self._n_features is None  # nothing was encoded yet in this pass
        content, now = self._sink.file(stored[0]).content_hash, self._file_of(i).content_hash
        is_same = content in (None, now)
        if is_resumed and is_same and len(stored[1]) <= len(plan.clip_frames):
            video.embeddings.append(stored[1])
            video.n_to_skip, self._n_features = stored[1].shape
        else:
            self._sink.discard_partial()

    def _add_clip(self, i: int, clip: NDArray[np.uint8]) -> None:
        video = self._open_videos[i]
        if video.n_to_skip:
            video.n_to_skip -= 1
            return
        if self._batch and self._batch[0][1].shape != clip.shape:
            self._encode_batch()
        if i not in self._skipped:  # encoding may have skipped this video
            self._batch.append((i, clip))
        if len(self._batch) == self._batch_size:
            self._encode_batch()

    def _end_video(self, i: int, error: BaseException | None) -> None:
        if error is not None:
            self._raise_or_skip(i, error)
            return
        self._open_videos[i].is_read = True
        if self._open_videos[i].is_complete:
            self._write_sequence(i)
            self._sink.commit()

    def _encode_batch(self) -> None:
        if not self._batch:
            return
        indices, clips = zip(*self._batch, strict=True)
        self._batch = []
        embeddings = self._encode(clips)
        self._check_n_features(embeddings, indices[0])
        for i in dict.fromkeys(indices):
            self._add_embeddings(i, embeddings[np.equal(indices, i)])
        self._sink.commit()

    def _add_embeddings(self, i: int, embeddings: _Embeddings) -> None:
        """Add the embeddings of the next clips of a video."""
        video = self._open_videos[i]
        finite = np.isfinite(embeddings).all(axis=1)
        if not finite.all():
            window = video.first_window_of(video.n_encoded + int(np.flatnonzero(~finite)[0]))
            message = f"the encoder returned NaN or infinity for window {window} of "
            self._raise_or_skip(i, _NotFiniteError(message + self._sources[i].name))
            return
        try:
            self._check_size(i, embeddings)
        except RefusedVideoError as error:
            self._raise_or_skip(i, error)
            return
        video.embeddings.append(embeddings)
        if video.is_complete:
            self._write_sequence(i)
        else:
            content_hash = self._file_of(i).content_hash
            self._sink.write_partial(self._sources[i].id, embeddings, content_hash)

    def _check_size(self, i: int, embeddings: _Embeddings) -> None:
        """Check that a sequence, whose windows may repeat clips, is not too large for its file."""
        source, windows = self._sources[i], self._open_videos[i].plan.window_clips
        n_bytes = getattr(source.video, "nbytes", source.n_bytes)
        if n_bytes is not None:
            n_windows, n_widths = windows.shape[:2]
            cost = n_windows * n_widths * embeddings[:1].nbytes
            what = f"a sequence of {n_windows} windows"
            check_cost(source.name, what, cost, n_bytes, "use a larger stride")

    def _write_sequence(self, i: int) -> None:
        source, video = self._sources[i], self._open_videos.pop(i)
        values = video.plan.join(np.concatenate(video.embeddings))
        file = self._file_of(i)
        more = file.n_bytes, source.position, file.modified_ns, file.content_hash
        self._sink.append(source.id, values, video.plan.spans, *more)
        self._progress()

    def _file_of(self, i: int) -> FileIdentity:
        return self._files.get(i, FileIdentity(self._sources[i].n_bytes))

    def _raise_or_skip(self, i: int, error: BaseException) -> None:
        """Raise `error`, or skip the video and record its failure if `on_error` allows it."""
        if self._on_error == "raise" or not isinstance(error, _VIDEO_ERRORS):
            raise error
        self._skipped.add(i)
        self._drop_clips(i)
        source = self._sources[i]
        if self._on_error == "warn":
            warnings.warn(f"{source.name} is left out: {error}", UserWarning, stacklevel=2)
        frame, may_pass = getattr(error, "frame", None), not is_of_the_file(error)
        self._sink.fail(source.id, str(error), frame, *self._file_of(i), may_pass)
        self._sink.commit()
        self._progress()

    def _drop_clips(self, i: int) -> None:
        """Drop the waiting clips and the embeddings of a video."""
        self._open_videos.pop(i, None)
        self._batch = [(index, clip) for index, clip in self._batch if index != i]

    def _check_n_features(self, embeddings: _Embeddings, i: int) -> None:
        """Check that embeddings have as many features as all before them."""
        n_features = embeddings.shape[1]
        if self._n_features is None:
            self._n_features = n_features
        if n_features != self._n_features:
            raise ValueError(
                f"the encoder returned {n_features} features for {self._sources[i].name}, "
                f"but {self._n_features} before"
            )


def _size_of(item: FileIdentity | WindowPlan | NDArray[np.uint8]) -> int:
    return item.nbytes if isinstance(item, np.ndarray) else 0
