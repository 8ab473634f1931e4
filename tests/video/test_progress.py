import time

import pytest

from skdejavid.compat import bars
from skdejavid.video.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests move; the bar itself has another one."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_windows_per_second_and_shares_of_waiting_are_told(clock):
    counted = Progress(3, is_shown=False)
    with counted.waiting_for("decoding"):
        clock[0] += 2
    clock[0] += 1
    for seconds in (3, 2):
        with counted.waiting_for("encoder"):
            clock[0] += seconds
    counted.count_windows(16.5)
    counted.count_windows(7.5)
    assert counted.summary() == "3.0 windows/s, waits for decoding 25%, encoder 62%"


def test_the_time_until_each_item_counts_and_that_between_items_does_not(clock):
    def items():
        clock[0] += 1
        yield "a"
        clock[0] += 2
        yield "b"
        clock[0] += 3

    counted = Progress(1, is_shown=False)
    received = []
    for item in counted.waiting_for_each(items(), "decoding"):
        received.append(item)
        clock[0] += 3
    assert received == ["a", "b"]
    assert "decoding 50%" in counted.summary()


def test_waiting_that_ends_in_an_error_counts(clock):
    def fail():
        with counted.waiting_for("encoder"):
            clock[0] += 1
            raise OSError("broken")

    counted = Progress(1, is_shown=False)
    with pytest.raises(OSError, match="broken"):
        fail()
    assert "encoder 100%" in counted.summary()


def test_the_bar_moves_inside_of_a_long_video(monkeypatch, capsys):
    monkeypatch.setattr(bars, "_SECONDS_BETWEEN_LINES", 0)
    with Progress(2, is_shown=True) as shown:
        shown.count_windows(5)
        first = capsys.readouterr().err
        shown.count_video()
    last = capsys.readouterr().err
    assert "0/2" in first
    assert "windows/s, waits for decoding 0%, encoder 0%" in first
    assert "1/2" in last


def test_the_title_stands_above_the_bar(capsys):
    with Progress(2, is_shown=True, title="what is done"):
        pass
    assert capsys.readouterr().err.startswith("what is done\n")
    with Progress(2, is_shown=False, title="what is done"):
        pass
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_unless_asked_for(capsys):
    with Progress(2, is_shown=False) as hidden:
        hidden.count_windows(5)
        hidden.count_video()
    assert capsys.readouterr() == ("", "")
