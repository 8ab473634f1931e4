import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.video.prefetch import End, NotWantedError, check_is_wanted, iterate_ahead


def ahead_of(sources, read, n_threads, capacity):
    return iterate_ahead(sources, read, n_threads=n_threads, capacity=capacity, size=lambda item: 1)


def count_to(n_items):
    yield from range(n_items)


@given(st.lists(st.integers(0, 7), max_size=12), st.integers(1, 4), st.integers(1, 3))
def test_order_depends_on_no_thread(lengths, n_threads, n_items):
    read = list(ahead_of(lengths, count_to, n_threads, n_items))
    expected = [
        (i, item) for i, length in enumerate(lengths) for item in [*range(length), End(None)]
    ]
    assert read == expected


@pytest.mark.fault(43)
def test_an_error_ends_its_source_and_no_other():
    def read(source):
        yield source
        if source == 1:
            raise OSError("broken")
        yield -source

    items = list(ahead_of([0, 1, 2], read, 2, 1))
    assert [item for i, item in items if i != 1] == [0, 0, End(None), 2, -2, End(None)]
    (_, first), (_, end) = [pair for pair in items if pair[0] == 1]
    assert first == 1
    assert isinstance(end.error, OSError)
    assert str(end.error) == "broken"


@pytest.mark.parametrize("n_threads", [1, 3])
def test_nobody_reads_farther_ahead_than_allowed(n_threads):
    made = [0] * 20

    def read(source):
        for _ in range(50):
            made[source] += 1
            yield source

    ahead = ahead_of(range(20), read, n_threads, 4)
    consumed = [0] * 20
    for i, item in ahead:
        consumed[i] += not isinstance(item, End)
        time.sleep(0.0002)
        # Waiting items, one that each thread has read, and one of the source being consumed.
        assert sum(made) - sum(consumed) <= 4 + n_threads + 1
    assert made == consumed == [50] * 20


def test_sources_are_read_at_the_same_time():
    together = threading.Barrier(3)

    def read(source):
        together.wait(timeout=30)  # raises unless all three threads read at the same time
        yield source

    items = list(ahead_of(range(3), read, 3, 1))
    assert [item for _, item in items if not isinstance(item, End)] == [0, 1, 2]


def test_no_more_sources_are_opened_than_there_are_threads():
    n_threads = 3
    opened = []

    def read(source):
        opened.append(source)
        yield from range(2)

    for i, _ in ahead_of(range(50), read, n_threads, 1):
        # The sources being read, one whose items wait, and those that are finished.
        assert len(opened) <= i + 1 + n_threads + 1


def test_leaving_early_stops_and_closes_what_is_open():
    closed = []

    def read(source):
        try:
            while True:
                yield source
        finally:
            closed.append(source)

    n_before = threading.active_count()
    ahead = ahead_of(range(9), read, 2, 2)
    assert next(ahead) == (0, 0)
    ahead.close()
    assert 0 in closed
    assert set(closed) <= {0, 1}
    assert threading.active_count() == n_before


@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_what_is_larger_than_the_capacity_passes_one_by_one(n_threads):
    """Otherwise later sources could fill the buffer and block the current one forever."""

    def read(source):
        yield from range(5)

    ahead = iterate_ahead(range(4), read, n_threads=n_threads, capacity=10, size=lambda item: 100)
    assert [item for _, item in ahead if not isinstance(item, End)] == [*range(5)] * 4


@pytest.mark.fault(92)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whatever_ends_a_thread_reaches_the_consumer(error):
    """Otherwise the consumer waits forever."""

    def read(source):
        yield source
        raise error

    items = [item for _, item in ahead_of(range(2), read, 1, 9)]
    assert [type(item.error) for item in items if isinstance(item, End)] == [error] * 2


@pytest.mark.fault(92)
def test_long_work_between_two_items_ends_when_nobody_waits_for_it():
    ended = threading.Event()

    def read(source):
        yield source
        try:
            while True:  # a long video without a window, for example
                check_is_wanted()
        except NotWantedError:
            ended.set()
            raise

    n_before = threading.active_count()
    ahead = ahead_of(range(3), read, 2, 2)
    next(ahead)
    ahead.close()
    assert ended.is_set()
    assert threading.active_count() == n_before
    check_is_wanted()  # outside of such a thread everything is wanted
