import pandas as pd
import pytest

from skdejavid import TSEArray
from skdejavid.sequences.times import check_index, check_times

DAYS = pd.to_datetime(["2020-01-03", "2020-01-02", "2020-01-01"])
TIMES = {
    "dates": DAYS,
    "dates with a zone": DAYS.tz_localize("Europe/Zurich"),
    "durations": pd.to_timedelta([3, 2, 1], unit="s"),
    "periods": DAYS.to_period("D"),
    "objects": pd.Index(list(DAYS.date), dtype=object),
    "last level": pd.MultiIndex.from_arrays([[7, 7, 7], DAYS]),
}


def frame(index):
    return pd.DataFrame({"a": [3.0, 2.0, 1.0]}, index=index)


@pytest.mark.fault(94)
@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("as_panel", [False, True])
def test_frames_are_never_read_against_their_times(kind, as_panel):
    turned = frame(TIMES[kind])
    if as_panel and kind == "last level":
        turned = turned.droplevel(0)
    read = TSEArray.from_sktime if as_panel else TSEArray
    with pytest.raises(ValueError, match=r"times of X\[1\] are not .* X\[1\].sort_index\(\)"):
        read([turned.sort_index(), turned])
    assert read([turned.sort_index()])[0].ravel().tolist() == [1.0, 2.0, 3.0]
    assert TSEArray([turned.reset_index(drop=True)])[0].ravel().tolist() == [3.0, 2.0, 1.0]


@pytest.mark.fault(94)
def test_no_reader_keeps_two_frames_of_one_time():
    twice = frame(DAYS[[2, 2, 0]])
    for read in (TSEArray, TSEArray.from_sktime):
        with pytest.raises(ValueError, match=r"two rows of X\[0\] have the time 2020-01-01"):
            read([twice])
    panel = pd.concat([twice], keys=["i"], names=["instance", "time"])
    with pytest.raises(ValueError, match=r"two rows of X\[0\] have the time 2020-01-01"):
        TSEArray.from_sktime(panel)
    with pytest.raises(ValueError, match="two rows have the id i and the time 2020-01-01"):
        TSEArray.from_long(panel, id="instance", time="time")
    with pytest.raises(ValueError, match=r"two rows of X\[0\] have the time 4"):
        TSEArray.from_sktime([frame([4, 4, 5])])


@pytest.mark.parametrize("index", [[2, 1, 0], [0, 0, 0], ["c", "a", "b"], [0.5, 0.1, 0.2]])
def test_an_index_that_is_no_time_may_be_in_any_order(index):
    check_index(frame(index), "X[0]")
    assert TSEArray([frame(index)])[0].ravel().tolist() == [3.0, 2.0, 1.0]
    with pytest.raises(ValueError, match=r"two rows|not in ascending"):
        check_times(frame(index).index, "X[0]", "X")


def test_a_missing_time_is_out_of_order():
    with pytest.raises(ValueError, match="not in ascending order"):
        check_index(frame(pd.DatetimeIndex([DAYS[2], pd.NaT, DAYS[0]])), "X[0]")


def test_tables_without_an_index_have_no_times():
    check_index(object(), "X[0]")
