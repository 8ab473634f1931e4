"""Encoding videos batch by batch, while threads read frames ahead of the encoder.

Batches contain clips in the order of the videos, possibly of several videos. The clips of a batch
depend only on the clips before it. A pass that resumes after the last committed batch therefore
forms the same batches, and gives the same numbers to the bit, as a pass without interruption.

The embeddings of a batch are taken after the next batch was started, so that a card has something
to compute while the host takes them. An encoder that returns when it has computed them, as on the
CPU, leaves nothing to take later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.memory import return_free_memory
from skdejavid.sequences.hints import warn_caller
from skdejavid.store import Failure, FileIdentity
from skdejavid.video.clips import ClipSpec, NumberedFrame, check_cost, read_frames
from skdejavid.video.opening import RefusedVideoError
from skdejavid.video.prefetch import End, iterate_ahead
from skdejavid.video.progress import Progress
from skdejavid.video.sources import Source
from skdejavid.video.unchanged import is_of_the_file, read_unchanged
from skdejavid.video.windows import ClipCutter, WindowPlan

__all__ = ["Encoder", "Extraction", "InMemory", "Sink", "Started", "warn_of_left_out"]


_MOST_NAMED = 3  # videos in a warning
_BYTES_AHEAD = 2**27  # maximum size of frames that wait for the encoder
_BYTES_BETWEEN_RETURNS = 2**27  # size of frames after which free memory goes back to the system

_Embeddings = NDArray[np.floating]
_Spans = NDArray[np.float64]

_Frame = Any  # a frame as the encoder keeps it, with the attributes shape and nbytes of an array
_Clip = list[_Frame]
_ReadItem = FileIdentity | WindowPlan | NumberedFrame


class Started(Protocol):
    """A batch that an encoder has started to encode."""

    @property
    def is_ready(self) -> bool:
        """Whether `get` has nothing to wait for."""

    def get(self) -> _Embeddings:
        """Wait for the embeddings (n_clips, n_features)."""


class Encoder(Protocol):
    """Encoder of clips; `skdejavid.video.encoders.ClipEncoder` documents the methods."""

    @property
    def stage(self) -> Callable[[NDArray[np.uint8]], _Frame]: ...

    def upload(self, frame: _Frame, /) -> _Frame: ...

    def start(self, clips: Sequence[_Clip], /) -> Started: ...


class Sink(Protocol):
    """Destination of sequences; `skdejavid.store.StoreWriter` documents the methods."""

    @property
    def records_content(self) -> bool: ...

    @property
    def partial(self) -> tuple[str, _Embeddings] | None: ...

    @property
    def partial_content(self) -> str | None: ...

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
    partial_content: str | None = None

    def __init__(self) -> None:
        self.sequences: dict[str, tuple[_Embeddings, _Spans]] = {}
        self.failures: dict[str, Failure] = {}

    def append(self, id: str, values: _Embeddings, spans: _Spans, *_: object) -> None:
        """Keep a sequence and its spans."""
        self.sequences[id] = values, spans

    def fail(self, id: str, cause: str, frame: int | None, n_bytes: int | None, *_: object) -> None:
        """Keep the failure of a video."""
        self.failures[id] = Failure(id, frame, cause, n_bytes)

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
    cutter: ClipCutter[_Frame]
    is_read: bool = False  # whether all frames were read
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


class _WaitingClip(NamedTuple):
    """A clip whose embedding is not known yet."""

    video: int  # index of the video
    frames: _Clip

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.frames), *self.frames[0].shape


class _StartedBatch(NamedTuple):
    """A batch whose embeddings were not taken yet."""

    clips: list[_WaitingClip]
    embeddings: Started


class Extraction:
    """One pass over videos.

    Parameters
    ----------
    sources : sequence of Source
        The videos, in order.
    spec : ClipSpec
        Windows and frame size.
    encoder : Encoder
        Computes the embeddings (n_clips, n_features) of clips of one shape.
    sink : Sink
        Destination of the sequences. Its partial sequence, if any, contains the embeddings of the
        first clips of ``sources[0]``; these clips are not encoded again.
    batch_size : int
        Maximum number of clips that are encoded together.
    on_error : {"raise", "skip", "warn"}
        Handling of videos that cannot be read or have embeddings that are not finite.
    progress : Progress
        Is told about videos, windows and waiting.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        spec: ClipSpec,
        encoder: Encoder,
        sink: Sink,
        *,
        batch_size: int,
        on_error: str,
        progress: Progress,
    ) -> None:
        self._sources = sources
        self._spec = spec
        self._encoder = encoder
        self._sink = sink
        self._batch_size = batch_size
        self._on_error = on_error
        self._progress = progress
        self._batch: list[_WaitingClip] = []  # fewer than `batch_size`
        self._started: _StartedBatch | None = None
        self._open_videos: dict[int, _OpenVideo] = {}
        self._skipped: set[int] = set()
        self._left_out: list[tuple[str, str]] = []  # names and causes
        self._files: dict[int, FileIdentity] = {}
        self._n_features: int | None = None
        self._n_bytes_since_return = 0

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
        ahead = iterate_ahead(
            self._sources,
            self._make_reader(max(1, n_threads // max(1, len(self._sources)))),
            n_threads=n_threads,
            capacity=_BYTES_AHEAD,
            size=_size_of,
        )
        # Must be closed after errors too: threads waiting for room would keep the process alive.
        with closing(ahead):
            for i, item in self._progress.waiting_for_each(ahead, "decoding"):
                if i in self._skipped:
                    continue
                if isinstance(item, FileIdentity):
                    self._files[i] = item
                elif isinstance(item, WindowPlan):
                    self._start_video(i, item)
                elif isinstance(item, End):
                    self._end_video(i, item.error)
                else:
                    self._add_frame(i, item)
        while self._batch or self._started is not None:
            if self._batch:
                self._encode_batch()
            else:
                self._take_started()
        if self._on_error == "warn":
            warn_of_left_out(self._left_out)

    def _make_reader(self, n_threads: int) -> Callable[[Source], Generator[_ReadItem]]:
        """Return the function that reads a video in a thread, with `n_threads` for its decoder."""
        stage = self._encoder.stage
        read = partial(
            read_unchanged,
            read=partial(read_frames, spec=self._spec, n_threads=n_threads),
            has_content=self._sink.records_content,
        )

        def read_and_stage(source: Source) -> Generator[_ReadItem]:
            with closing(read(source)) as items:
                for item in items:
                    if isinstance(item, NumberedFrame):
                        yield NumberedFrame(item.number, stage(item.pixels))
                    else:
                        yield item

        return read_and_stage

    def _start_video(self, i: int, plan: WindowPlan) -> None:
        """Start a video, or restart it with another plan if its first plan was wrong."""
        if i in self._open_videos:
            self._take_started()
            if i in self._skipped:
                return
            self._drop_clips(i)
        embeddings = self._resume(i, plan)
        cutter: ClipCutter[_Frame] = ClipCutter(plan.clip_frames[sum(map(len, embeddings)) :])
        self._open_videos[i] = _OpenVideo(plan, cutter, embeddings=embeddings)

    def _resume(self, i: int, plan: WindowPlan) -> list[_Embeddings]:
        """Return the embeddings of the first clips, if they were stored before an interruption."""
        stored = self._sink.partial
        if stored is None or stored[0] != self._sources[i].id:
            return []
        is_resumed = self._n_features is None  # nothing was encoded yet in this pass
        content, now = self._sink.partial_content, self._file_of(i).content_hash
        is_same = not self._sink.records_content or content == now is not None
        if is_resumed and is_same and len(stored[1]) <= len(plan.clip_frames):
            self._n_features = stored[1].shape[1]
            return [stored[1]]
        self._sink.discard_partial()
        return []

    def _add_frame(self, i: int, frame: NumberedFrame) -> None:
        cutter = self._open_videos[i].cutter
        if not cutter.needs(frame.number):
            return
        for clip in cutter.add(frame.number, self._encoder.upload(frame.pixels)):
            if i not in self._skipped:  # encoding the clip before may have skipped this video
                self._add_clip(_WaitingClip(i, clip))
        self._n_bytes_since_return += frame.pixels.nbytes
        if self._n_bytes_since_return > _BYTES_BETWEEN_RETURNS:
            self._n_bytes_since_return = 0
            return_free_memory()

    def _add_clip(self, clip: _WaitingClip) -> None:
        while self._batch and self._batch[0].shape != clip.shape:
            self._encode_batch()
        if clip.video in self._skipped:
            return
        self._batch.append(clip)
        if len(self._batch) == self._batch_size:
            self._encode_batch()

    def _end_video(self, i: int, error: BaseException | None) -> None:
        if error is not None:
            # What was started before is committed before, as a pass that resumes expects.
            self._take_started()
            if i not in self._skipped:
                self._raise_or_skip(i, error)
                self._sink.commit()
            return
        self._open_videos[i].is_read = True
        if self._open_videos[i].is_complete:
            self._write_sequence(i)
            self._sink.commit()

    def _encode_batch(self) -> None:
        """Start the batch, then take the embeddings of the one before."""
        clips, self._batch = self._batch, []
        with self._progress.waiting_for("encoder"):
            started = self._encoder.start([clip.frames for clip in clips])
        before, self._started = self._started, _StartedBatch(clips, started)
        if before is not None:
            self._take(before)
        if self._started is not None and self._started.embeddings.is_ready:
            self._take_started()

    def _take_started(self) -> None:
        """Take the embeddings of the batch that was started last, if it still counts."""
        started, self._started = self._started, None
        if started is not None:
            self._take(started)

    def _take(self, started: _StartedBatch) -> None:
        with self._progress.waiting_for("encoder"):
            embeddings = started.embeddings.get()
        indices = [clip.video for clip in started.clips]
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
        n_clips, n_windows = len(video.plan.clip_frames), len(video.plan.window_clips)
        self._progress.count_windows(len(embeddings) * n_windows / n_clips)
        if video.is_complete:
            self._write_sequence(i)
        else:
            content_hash = self._file_of(i).content_hash
            self._sink.write_partial(self._sources[i].id, embeddings, content_hash)

    def _check_size(self, i: int, embeddings: _Embeddings) -> None:
        """Check that a sequence, whose windows may repeat clips, is not too large for its file."""
        source, windows = self._sources[i], self._open_videos[i].plan.window_clips
        if source.n_bytes is not None:
            n_windows, n_widths = windows.shape[:2]
            cost = n_windows * n_widths * embeddings[:1].nbytes
            what = f"a sequence of {n_windows} windows"
            check_cost(source.name, what, cost, source.n_bytes, "use a larger stride")

    def _write_sequence(self, i: int) -> None:
        source, video = self._sources[i], self._open_videos.pop(i)
        values = video.plan.join(np.concatenate(video.embeddings))
        file = self._file_of(i)
        more = file.n_bytes, source.position, file.modified_ns, file.content_hash
        self._sink.append(source.id, values, video.plan.spans, *more)
        self._progress.count_video()

    def _file_of(self, i: int) -> FileIdentity:
        return self._files.get(i, FileIdentity(self._sources[i].n_bytes))

    def _raise_or_skip(self, i: int, error: BaseException) -> None:
        """Raise `error`, or skip the video and record its failure if `on_error` allows it."""
        if self._on_error == "raise" or not isinstance(error, _VIDEO_ERRORS):
            raise error
        self._skipped.add(i)
        self._drop_clips(i)
        source = self._sources[i]
        self._left_out.append((source.name, str(error)))
        frame, may_pass = getattr(error, "frame", None), not is_of_the_file(error)
        self._sink.fail(source.id, str(error), frame, *self._file_of(i), may_pass)
        self._progress.count_video()

    def _drop_clips(self, i: int) -> None:
        """Drop the waiting clips and the embeddings of a video.

        A batch with clips of it that was started does not count: a pass that resumes does not know
        the video, and would put other clips into that batch. The remaining clips wait again.
        """
        self._open_videos.pop(i, None)
        if self._started is not None and any(clip.video == i for clip in self._started.clips):
            self._batch = self._started.clips + self._batch
            self._started = None
        self._batch = [clip for clip in self._batch if clip.video != i]

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


def warn_of_left_out(videos: Sequence[tuple[str, str]]) -> None:
    """Warn of the videos that are left out, given as names and causes; once, as all may be."""
    if not videos:
        return
    shown = "; ".join(f"{name} is left out: {cause}" for name, cause in videos[:_MOST_NAMED])
    if len(videos) > 1:
        more = "; ..." if len(videos) > _MOST_NAMED else ""
        shown = f"{len(videos)} videos are left out, see failures_: {shown}{more}"
    warn_caller(shown, UserWarning)


def _size_of(item: FileIdentity | WindowPlan | NumberedFrame) -> int:
    return item.pixels.nbytes if isinstance(item, NumberedFrame) else 0
