"""Several iterators advanced by threads, consumed in their order, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Condition
from typing import Generic, NamedTuple, TypeVar

__all__ = ["End", "iterate_ahead"]

T = TypeVar("T")
Source = TypeVar("Source")


class End(NamedTuple):
    """An iterator has no more items, or has raised an error."""

    error: Exception | None


def iterate_ahead(
    sources: Sequence[Source],
    read: Callable[[Source], Iterator[T]],
    *,
    n_threads: int,
    capacity: int,
    size: Callable[[T], int],
) -> Generator[tuple[int, T | End]]:
    """Items of ``read(source)`` for one source after the other, while threads read ahead.

    Yields pairs (number of the source, item), after the last item of each source an `End`. An error
    of a source does not end the others. Who leaves early must close the generator, which ends the
    threads.

    Parameters
    ----------
    sources : sequence
        What to read.
    read : callable
        Makes the generator of a source; runs in a thread.
    n_threads : int
        Number of sources that are read at the same time.
    capacity : int
        How much may wait, of all sources together; whatever that is, one item of the source whose
        turn it is may.
    size : callable
        How much of that an item takes.
    """
    shelf: _Shelf[T] = _Shelf(capacity, len(sources))

    def work() -> None:
        while (i := shelf.next_source()) is not None:
            read_source(i)

    def read_source(i: int) -> None:
        error: Exception | None = None
        try:
            with closing(read(sources[i])) as items:  # type: ignore[type-var]
                for item in items:
                    if not shelf.put(i, item, size(item)):
                        return
        except Exception as raised:
            error = raised
        shelf.put(i, End(error), 0)

    with ThreadPoolExecutor(n_threads, thread_name_prefix="skdejavid-read") as pool:
        try:
            for _ in range(n_threads):
                pool.submit(work)
            for i in range(len(sources)):
                item: T | End | None = None
                while not isinstance(item, End):
                    item = shelf.take(i)
                    yield i, item
        finally:
            shelf.close()
            pool.shutdown(wait=True)


class _Shelf(Generic[T]):
    """Items that wait, of several sources, which threads take up in their order."""

    def __init__(self, capacity: int, n_sources: int) -> None:
        self._capacity = capacity
        self._sources = iter(range(n_sources))
        self._items: dict[int, deque[tuple[T | End, int]]] = {}
        self._taken_up = 0
        self._turn = 0
        self._is_closed = False
        self._changed = Condition()

    def next_source(self) -> int | None:
        """The number of a source that nobody reads yet, None if there is none or all is over."""
        with self._changed:
            return None if self._is_closed else next(self._sources, None)

    def put(self, i: int, item: T | End, size: int) -> bool:
        """Wait until there is room, False if nobody takes items any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room(i, size))
            if self._is_closed:
                return False
            self._items.setdefault(i, deque()).append((item, size))
            self._taken_up += size
            self._changed.notify_all()
            return True

    def take(self, i: int) -> T | End:
        """The next item of a source, whose turn it is from now on."""
        with self._changed:
            if self._turn != i:
                self._turn = i
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._items.get(i))
            item, size = self._items[i].popleft()
            self._taken_up -= size
            if isinstance(item, End):
                del self._items[i]
            self._changed.notify_all()
            return item

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _has_room(self, i: int, size: int) -> bool:
        is_next = i == self._turn and not self._items.get(i)
        return is_next or self._taken_up + size <= self._capacity
