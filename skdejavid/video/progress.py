"""Progress of an extraction: how far and how fast it is, and what it waits for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from skdejavid.compat.bars import Bar

__all__ = ["Progress"]

_SECONDS_BETWEEN_UPDATES = 0.5

_END: Any = object()

T = TypeVar("T")


class Progress:
    """A progress bar over videos, a context manager.

    Parameters
    ----------
    n_videos : int
        Number of videos.
    is_shown : bool
        Whether to show the bar.
    title : str, default=""
        Line above the bar.
    """

    def __init__(self, n_videos: int, *, is_shown: bool, title: str = "") -> None:
        if is_shown and title:
            Bar.write(title, file=sys.stderr)
        self._bar = Bar(
            total=n_videos,
            desc="videos",
            unit="video",
            disable=not is_shown,
            mininterval=_SECONDS_BETWEEN_UPDATES,
            miniters=0,  # a long video is shown to progress as well
        )
        self._begin = time.perf_counter()
        self._n_windows = 0.0
        self._waited = {"decoding": 0.0, "encoder": 0.0}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """Count the time of the block as time spent waiting for "decoding" or the "encoder"."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._waited[what] += time.perf_counter() - begin

    def waiting_for_each(self, items: Iterable[T], what: str) -> Iterator[T]:
        """Yield `items`; count the time until each is there as in `waiting_for`."""
        iterator = iter(items)
        while True:
            begin = time.perf_counter()
            item = next(iterator, _END)  # of each frame: a context would take longer than the rest
            self._waited[what] += time.perf_counter() - begin
            if item is _END:
                return
            yield item

    def count_windows(self, n_windows: float) -> None:
        """Count windows that were encoded; clips of an unfinished sequence are parts of windows."""
        self._n_windows += n_windows
        self._show(0)

    def count_video(self) -> None:
        """Count a video that is finished or left out."""
        self._show(1)

    def summary(self) -> str:
        """Return windows per second, and the shares of time spent waiting."""
        seconds = max(time.perf_counter() - self._begin, 1e-9)
        shares = [f"{name} {waited / seconds:.0%}" for name, waited in self._waited.items()]
        return f"{self._n_windows / seconds:.1f} windows/s, waits for {', '.join(shares)}"

    def _show(self, n_videos: int) -> None:
        if not self._bar.disable:
            self._bar.set_postfix_str(self.summary(), refresh=False)
            self._bar.update(n_videos)
