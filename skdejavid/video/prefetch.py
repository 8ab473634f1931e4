"""Reading several iterators ahead in threads, in order and with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Condition, local
from typing import Generic, NamedTuple, TypeVar

__all__ = ["End", "NotWantedError", "check_is_wanted", "iterate_ahead"]

_reading = local()  # attribute: buffer, of the thread that reads

T = TypeVar("T")
Source = TypeVar("Source")


class End(NamedTuple):
    """Marker after the last item of a source."""

    error: BaseException | None  # raised by the source, None if it ended normally


class NotWantedError(Exception):
    """Error raised in a thread that reads, if nobody takes the items anymore."""


def check_is_wanted() -> None:
    """Check that the items which this thread reads ahead are still wanted, if it reads ahead.

    `read` calls it during long work between two items, so that an interrupt ends the threads soon.

    Raises
    ------
    NotWantedError
        If the generator was closed.
    """
    buffer = getattr(_reading, "buffer", None)
    if buffer is not None and buffer.is_closed:
        raise NotWantedError


def iterate_ahead(
    sources: Sequence[Source],
    read: Callable[[Source], Iterator[T]],
    *,
    n_threads: int,
    capacity: int,
    size: Callable[[T], int],
) -> Generator[tuple[int, T | End]]:
    """Yield the items of ``read(source)`` of one source after the other, read ahead by threads.

    An error of a source does not affect the other sources. A caller that stops early must close the
    generator, which ends the threads.

    Parameters
    ----------
    sources : sequence
        Arguments of `read`.
    read : callable
        Returns a generator of the items of a source. It runs in a thread.
    n_threads : int
        Number of sources that are read at the same time.
    capacity : int
        Maximum total size of waiting items of all sources. One item of the source being consumed
        may always wait, whatever its size.
    size : callable
        Returns the size of an item.

    Yields
    ------
    tuple of (int, item or End)
        Index of the source and its item. `End` follows the last item of each source.
    """
    buffer: _BoundedBuffer[T] = _BoundedBuffer(capacity, len(sources))

    def work() -> None:
        _reading.buffer = buffer
        while (i := buffer.next_source()) is not None:
            read_source(i)

    def read_source(i: int) -> None:
        error: BaseException | None = None
        try:
            with closing(read(sources[i])) as items:  # type: ignore[type-var]
                for item in items:
                    if not buffer.put(i, item, size(item)):
                        return
        except BaseException as raised:  # the consumer waits for the end, whatever happened
            error = raised
        buffer.put(i, End(error), 0)

    with ThreadPoolExecutor(n_threads, thread_name_prefix="skdejavid-read") as pool:
        try:
            for _ in range(n_threads):
                pool.submit(work)
            for i in range(len(sources)):
                item: T | End | None = None
                while not isinstance(item, End):
                    item = buffer.take(i)
                    yield i, item
        finally:
            buffer.close()
            pool.shutdown(wait=True)


class _BoundedBuffer(Generic[T]):
    """Thread-safe queues of waiting items, one per source, with a common capacity."""

    def __init__(self, capacity: int, n_sources: int) -> None:
        self._capacity = capacity
        self._sources = iter(range(n_sources))
        self._items: dict[int, deque[tuple[T | End, int]]] = {}
        self._used = 0
        self._current = 0  # the source being consumed
        self.is_closed = False
        self._changed = Condition()

    def next_source(self) -> int | None:
        """Return the next unread source, or None if all are taken or the buffer is closed."""
        with self._changed:
            return None if self.is_closed else next(self._sources, None)

    def put(self, i: int, item: T | End, size: int) -> bool:
        """Add an item once there is room; return False if the buffer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_closed or self._has_room(i, size))
            if self.is_closed:
                return False
            self._items.setdefault(i, deque()).append((item, size))
            self._used += size
            self._changed.notify_all()
            return True

    def take(self, i: int) -> T | End:
        """Wait for the next item of source `i`, which becomes the source being consumed."""
        with self._changed:
            if self._current != i:
                self._current = i
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._items.get(i))
            item, size = self._items[i].popleft()
            self._used -= size
            if isinstance(item, End):
                del self._items[i]
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Make all waiting and later calls of `put` return False."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def _has_room(self, i: int, size: int) -> bool:
        # Items of later sources may fill the buffer. The consumer takes none of them before the
        # current source ends, so an item of that source must be let in or both would wait forever.
        is_next = i == self._current and not self._items.get(i)
        return is_next or self._used + size <= self._capacity
