import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from skdejavid import DejaVidClassifier, TimeDifferences, TSEArray, check_sequences, dtw_distances

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


CLF = DejaVidClassifier(n_epochs=1, random_state=0)
READERS = {
    "TSEArray": TSEArray,
    "check_sequences": check_sequences,
    "check_sequences, estimator": lambda X: check_sequences(X, estimator=BaseEstimator()),
    "dtw_distances": lambda X: dtw_distances(X, np.zeros((1, 3, X.shape[1]))),
    "classifier": lambda X: CLF.fit(X, np.arange(len(X)) % 2),
    "transformer": lambda X: TimeDifferences().fit_transform(X),
    "pipeline": lambda X: make_pipeline(TimeDifferences(), CLF).fit(X, np.arange(len(X)) % 2),
    "search": lambda X: cross_val_score(CLF, X, np.arange(len(X)) % 2, cv=2),
}
CHANNELS_FIRST = [np.linspace(0, k + 1, 40)[None] for k in range(4)]


@pytest.mark.fault(94)
@pytest.mark.parametrize("name", READERS)
def test_the_warning_points_to_the_caller(name):
    with pytest.warns(DataDimensionalityWarning) as caught:
        READERS[name](np.arange(16.0).reshape(8, 2))
    assert {warning.filename for warning in caught} == {__file__}
    n_readings = 2 if name in ("pipeline", "search") else 1  # of steps, of folds
    assert len(caught) == n_readings


@pytest.mark.fault(95)
@pytest.mark.parametrize("name", ["classifier", "pipeline"])
def test_the_warning_of_axes_points_to_the_caller(name):
    with pytest.warns(DataDimensionalityWarning, match="as if channels came before") as caught:
        READERS[name](CHANNELS_FIRST)
    assert caught[0].filename == __file__
