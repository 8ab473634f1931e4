"""Videos to sequences, batch by batch: threads read clips ahead while the encoder works.

Batches hold clips in the order of the videos and may hold those of several. What one holds follows
from the clips before it alone, so that whoever goes on after the last batch that was kept gets the
same batches, and the same numbers to the bit, as if nothing had happened.
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

from skdejavid.store import Failure
from skdejavid.video.clips import Recipe, read_clips
from skdejavid.video.decoding import RefusedVideoError
from skdejavid.video.prefetch import End, iterate_ahead
from skdejavid.video.sources import Source
from skdejavid.video.windows import WindowPlan

__all__ = ["Extraction", "InMemory", "Sink"]


_BYTES_AHEAD = 2**27  # how much of clips may wait for the encoder


class Sink(Protocol):
    """Where sequences go. `skdejavid.store.StoreWriter` says what each method means."""

    @property
    def held(self) -> tuple[str, NDArray[np.floating]] | None: ...

    def append(
        self,
        id: str,
        values: NDArray[np.floating],
        spans: NDArray[np.float64] | None = None,
        n_bytes: int | None = None,
        position: int | None = None,
    ) -> None: ...

    def hold(self, id: str, values: NDArray[np.floating]) -> None: ...

    def release(self) -> None: ...

    def fail(
        self, id: str, cause: str, frame: int | None = None, n_bytes: int | None = None
    ) -> None: ...

    def commit(self) -> None: ...


class InMemory:
    """A sink that keeps sequences in memory and holds nothing for later."""

    held = None

    def __init__(self) -> None:
        self.sequences: dict[str, tuple[NDArray[np.floating], NDArray[np.float64] | None]] = {}
        self.failures: dict[str, Failure] = {}

    def append(
        self,
        id: str,
        values: NDArray[np.floating],
        spans: NDArray[np.float64] | None = None,
        n_bytes: int | None = None,
        position: int | None = None,
    ) -> None:
        self.sequences[id] = values, spans

    def fail(
        self, id: str, cause: str, frame: int | None = None, n_bytes: int | None = None
    ) -> None:
        self.failures[id] = Failure(id, frame, cause, n_bytes)

    def hold(self, id: str, values: NDArray[np.floating]) -> None:
        pass

    def release(self) -> None:
        pass

    def commit(self) -> None:
        pass


class _NotFiniteError(ValueError):
    """An embedding that holds NaN or infinity."""


# What one video may do wrong; other errors are not a video's, and end the extraction.
_ERRORS_OF_VIDEOS = (OSError, RefusedVideoError, _NotFiniteError)


@dataclass
class _Partial:
    """A video of which not all clips are encoded."""

    plan: WindowPlan
    n_to_skip: int = 0  # clips that were encoded before
    is_read: bool = False
    parts: list[NDArray[np.floating]] = field(default_factory=list)

    @property
    def n_encoded(self) -> int:
        return sum(map(len, self.parts))

    @property
    def is_complete(self) -> bool:
        return self.is_read and self.n_encoded == len(self.plan.shown)

    def window_of(self, clip: int) -> int:
        """The first window that needs a clip."""
        return int(np.argwhere(self.plan.rows == clip)[0, 0])


class Extraction:
    """One pass over videos.

    Parameters
    ----------
    sources : sequence of Source
        The videos, in order.
    recipe : Recipe
        How clips are cut.
    encode : callable
        Embeddings (n_clips, n_features) of clips of one shape.
    sink : Sink
        Where the sequences go. If it holds rows, they are the first clips of ``sources[0]``.
    batch_size : int
        Number of clips per call of `encode`.
    on_error : {"raise", "skip", "warn"}
        What to do about videos that cannot be read or whose embeddings are not finite.
    progress : callable
        Called after each video.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        recipe: Recipe,
        encode: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.floating]],
        sink: Sink,
        *,
        batch_size: int,
        on_error: str,
        progress: Callable[[], object],
    ) -> None:
        self._sources = sources
        self._recipe = recipe
        self._encode = encode
        self._sink = sink
        self._batch_size = batch_size
        self._on_error = on_error
        self._progress = progress
        self._batch: list[tuple[int, NDArray[np.uint8]]] = []  # number of the video, clip
        self._partials: dict[int, _Partial] = {}
        self._given_up: set[int] = set()
        self._n_features: int | None = None

    def run(self, n_threads: int) -> None:
        """Encode all videos.

        Parameters
        ----------
        n_threads : int
            Number of videos that are read at the same time.
        """
        per_video = max(1, n_threads // max(1, len(self._sources)))
        read = partial(read_clips, recipe=self._recipe, n_threads=per_video)
        videos = [source.video for source in self._sources]
        ahead = iterate_ahead(
            videos, read, n_threads=n_threads, capacity=_BYTES_AHEAD, size=_size_of
        )
        # Closed whatever happens: threads that wait for their turn would keep the process alive.
        with closing(ahead):
            for i, item in ahead:
                if i in self._given_up:
                    continue
                if isinstance(item, WindowPlan):
                    self._begin(i, item)
                elif isinstance(item, End):
                    self._end(i, item.error)
                else:
                    self._add(i, item)
        self._flush()

    def _begin(self, i: int, plan: WindowPlan) -> None:
        """Begin a video, or begin it anew if its first plan was wrong."""
        self._forget(i)
        begun = self._partials[i] = _Partial(plan)
        held = self._sink.held
        if held is None or held[0] != self._sources[i].id:
            return
        is_resumed = self._n_features is None  # nothing was encoded yet in this pass
        if is_resumed and len(held[1]) <= len(plan.shown):
            begun.parts.append(held[1])
            begun.n_to_skip, self._n_features = held[1].shape
        else:
            self._sink.release()

    def _add(self, i: int, clip: NDArray[np.uint8]) -> None:
        begun = self._partials[i]
        if begun.n_to_skip:
            begun.n_to_skip -= 1
            return
        if self._batch and self._batch[0][1].shape != clip.shape:
            self._flush()
        if i not in self._given_up:  # by that flush
            self._batch.append((i, clip))
        if len(self._batch) == self._batch_size:
            self._flush()

    def _end(self, i: int, error: Exception | None) -> None:
        if error is not None:
            self._give_up(i, error)
            return
        self._partials[i].is_read = True
        if self._partials[i].is_complete:
            self._finish(i)
            self._sink.commit()

    def _flush(self) -> None:
        """Encode what has come together."""
        if not self._batch:
            return
        numbers, clips = zip(*self._batch, strict=True)
        self._batch = []
        embeddings = self._encode(clips)
        self._require_width(embeddings, numbers[0])
        for i in dict.fromkeys(numbers):
            rows = embeddings[np.equal(numbers, i)]
            begun = self._partials[i]
            finite = np.isfinite(rows).all(axis=1)
            if not finite.all():
                window = begun.window_of(begun.n_encoded + int(np.flatnonzero(~finite)[0]))
                message = f"the encoder returned NaN or infinity for window {window} of "
                self._give_up(i, _NotFiniteError(message + self._sources[i].name))
                continue
            begun.parts.append(rows)
            if begun.is_complete:
                self._finish(i)
            else:
                self._sink.hold(self._sources[i].id, rows)
        self._sink.commit()

    def _finish(self, i: int) -> None:
        source, done = self._sources[i], self._partials.pop(i)
        values = done.plan.join(np.concatenate(done.parts))
        self._sink.append(source.id, values, done.plan.spans, source.n_bytes, source.position)
        self._progress()

    def _give_up(self, i: int, error: Exception) -> None:
        """Leave a video out, as far as `on_error` allows it."""
        if self._on_error == "raise" or not isinstance(error, _ERRORS_OF_VIDEOS):
            raise error
        self._given_up.add(i)
        self._forget(i)
        source = self._sources[i]
        if self._on_error == "warn":
            warnings.warn(f"{source.name} is left out: {error}", UserWarning, stacklevel=2)
        frame = getattr(error, "frame", None)
        self._sink.fail(source.id, str(error), frame, source.n_bytes)
        self._sink.commit()
        self._progress()

    def _forget(self, i: int) -> None:
        self._partials.pop(i, None)
        self._batch = [(number, clip) for number, clip in self._batch if number != i]

    def _require_width(self, embeddings: NDArray[np.floating], i: int) -> None:
        """Refuse embeddings that are not as wide as all before them."""
        n_features = embeddings.shape[1]
        if self._n_features is None:
            self._n_features = n_features
        if n_features != self._n_features:
            raise ValueError(
                f"the encoder returned {n_features} features for {self._sources[i].name}, "
                f"but {self._n_features} before"
            )


def _size_of(item: WindowPlan | NDArray[np.uint8]) -> int:
    return 0 if isinstance(item, WindowPlan) else item.nbytes
