import warnings

import numpy as np
import pytest
from sklearn.exceptions import DataDimensionalityWarning

from skdejavid import TSEArray, check_sequences, dtw_distances

ROWS = np.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.fault(94)
@pytest.mark.parametrize(
    "read",
    [TSEArray, check_sequences, lambda X: dtw_distances(X, np.zeros((1, 3, 2)))],
    ids=["TSEArray", "check_sequences", "dtw_distances"],
)
@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist])
def test_whoever_passes_rows_is_asked_once_whether_they_are_meant(read, convert):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(convert(ROWS))
    assert [warning.category for warning in caught] == [DataDimensionalityWarning]
    message = str(caught[0].message)
    assert message.startswith("X is a 2-D array, and each of its 2 rows is read as a sequence of")
    for remedy in ("[X]", "TSEArray.from_long(X, id=...)", "[:, :, None]", "[:, None]"):
        assert remedy in message


def test_the_remedies_are_read_without_a_word():
    for X, n_frames in (([ROWS], 2), (ROWS[:, None], 1), (ROWS[:, :, None], 2)):
        assert TSEArray(X).lengths.tolist() == [n_frames] * len(X)


@pytest.mark.filterwarnings("always:X is a 2-D array, and each")
def test_the_warning_points_to_the_caller():
    for read in (TSEArray, check_sequences):
        with pytest.warns(DataDimensionalityWarning) as caught:
            read(ROWS)
        assert caught[0].filename == __file__
