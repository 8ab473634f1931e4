"""Permutation importances of data whose informative features and times are known."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.impute import SimpleImputer
from sklearn.metrics import make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import DejaVidClassifier, Framewise, Interpolate, TSEArray
from skdejavid.inspection import permutation_importance

QUICK = {"n_epochs": 10, "n_timesteps": 6, "random_state": 0}


@pytest.fixture(scope="module")
def bump():
    """Noise of 3 features; in half of the sequences feature 1 is high in its third quarter."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = [rng.standard_normal((n_frames, 3)) for n_frames in rng.integers(12, 30, size=60)]
    for x, label in zip(X, y, strict=True):
        time = (np.arange(len(x)) + 0.5) / len(x)
        x[(time > 0.5) & (time < 0.75), 1] += 8 * label
    return TSEArray(X), y


@pytest.fixture(scope="module")
def fitted(bump):
    return DejaVidClassifier(**QUICK).fit(*bump)


def test_the_one_feature_that_matters_is_found(fitted, bump):
    result = permutation_importance(fitted, *bump, random_state=0)
    assert result.importances.shape == (3, 5)
    assert result.importances_mean[1] > 0.3
    assert np.abs(result.importances_mean[[0, 2]]).max() <= 0.02
    np.testing.assert_array_equal(result.importances_mean, result.importances.mean(axis=1))
    np.testing.assert_array_equal(result.importances_std, result.importances.std(axis=1))


def test_the_one_part_of_time_that_matters_is_found(fitted, bump):
    result = permutation_importance(fitted, *bump, over="time", n_parts=4, random_state=0)
    assert result.importances.shape == (4, 5)
    assert result.importances_mean[2] > 0.3
    assert np.abs(result.importances_mean[[0, 1, 3]]).max() <= 0.05


def test_groups_are_permuted_together(fitted, bump):
    single = permutation_importance(fitted, *bump, random_state=0)
    grouped = permutation_importance(fitted, *bump, groups=[[0, 2], [1]], random_state=0)
    np.testing.assert_array_equal(grouped.importances[1], single.importances[1])
    assert np.abs(grouped.importances_mean[0]) <= 0.05
    everything = permutation_importance(fitted, *bump, groups=[[0, 1, 2]], random_state=0)
    all_of_time = permutation_importance(fitted, *bump, over="time", n_parts=1, random_state=0)
    np.testing.assert_array_equal(everything.importances, all_of_time.importances)


@pytest.mark.slow
@pytest.mark.parametrize("container", [list, np.asarray, TSEArray])
def test_neither_container_nor_jobs_change_a_number(container, fitted, bump):
    X, y = bump
    expected = permutation_importance(fitted, X, y, n_repeats=2, random_state=3).importances
    for n_jobs in (1, 2):
        result = permutation_importance(
            fitted, container(X), y, n_repeats=2, random_state=3, n_jobs=n_jobs
        )
        np.testing.assert_array_equal(result.importances, expected)


def test_a_pipeline_is_an_estimator_like_any_other(bump):
    X, y = bump
    pipeline = make_pipeline(Framewise(StandardScaler()), DejaVidClassifier(**QUICK)).fit(X, y)
    importances = permutation_importance(pipeline, X, y, random_state=0).importances_mean
    assert importances.argmax() == 1


def test_the_score_is_the_one_asked_for_with_its_weights(fitted, bump):
    X, y = bump
    settings = {"n_repeats": 2, "random_state": 0}
    accuracy = permutation_importance(fitted, X, y, **settings)
    named = permutation_importance(fitted, X, y, scoring="accuracy", **settings)
    np.testing.assert_array_equal(accuracy.importances, named.importances)
    doubled = make_scorer(lambda y, predicted: 2 * np.mean(y == predicted))
    twice = permutation_importance(fitted, X, y, scoring=doubled, **settings)
    np.testing.assert_allclose(twice.importances, 2 * accuracy.importances, atol=1e-15)
    first = permutation_importance(fitted, X, y, sample_weight=np.arange(60) == 0, **settings)
    assert set(np.abs(first.importances).ravel()) <= {0.0, 1.0}


class Recording:
    """An estimator that records the sequences that it scores."""

    def __init__(self):
        self.asked = []

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        self.asked.append(X)
        return 0.0


def exchanged(X, **settings):
    """Return the sequences that the estimator scores: each permutation, and last the data."""
    recording = Recording()
    permutation_importance(recording, X, None, n_repeats=1, **settings)
    *permuted, plain = recording.asked
    np.testing.assert_array_equal(plain.frames, TSEArray(X).frames)
    return permuted


RAGGED = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(lengths=RAGGED, seed=st.integers(0, 99))
def test_a_course_is_taken_from_the_moments_of_another_sequence(lengths, seed):
    """Each value encodes its source; nothing else of a sequence changes."""
    X = TSEArray(
        [
            np.stack([np.full(n, 100.0 * i), 100.0 * i + np.arange(n)], axis=1)
            for i, n in enumerate(lengths)
        ]
    )
    donors = np.random.RandomState(seed).permutation(len(lengths))
    permuted = exchanged(X, random_state=seed)[1]
    assert permuted.lengths.tolist() == lengths
    for x, before, donor in zip(permuted, X, donors, strict=True):
        np.testing.assert_array_equal(x[:, 0], before[:, 0])
        expected = [
            100 * donor + (2 * j + 1) * lengths[donor] // (2 * len(x)) for j in range(len(x))
        ]
        assert x[:, 1].tolist() == expected


@given(lengths=RAGGED, n_parts=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_parts_of_time_cover_every_frame_once(lengths, n_parts, seed):
    X = TSEArray([np.full((n, 1), float(i)) for i, n in enumerate(lengths)])
    donors = np.random.RandomState(seed).permutation(len(lengths))
    permuted = exchanged(X, over="time", n_parts=n_parts, random_state=seed)
    assert len(permuted) == n_parts
    for i, donor in enumerate(donors):
        n_taken = sum((part[i] == donor).ravel().astype(int) for part in permuted)
        assert (n_taken == (n_parts if donor == i else 1)).all()


def test_a_frame_belongs_to_the_part_that_its_middle_lies_in():
    X = TSEArray([np.zeros((3, 1)), np.ones((3, 1))])
    seed = next(s for s in range(99) if np.random.RandomState(s).permutation(2)[0])
    first, second = exchanged(X, over="time", n_parts=2, random_state=seed)
    assert first[0].ravel().tolist() == [1, 0, 0]
    assert second[0].ravel().tolist() == [0, 1, 1]


def test_spans_stay_with_their_sequences_and_data_are_left_as_they_were(rng):
    X = TSEArray.from_packed(rng.standard_normal((5, 2)), [0, 2, 5], np.arange(10.0).reshape(5, 2))
    before = X.frames.copy()
    X.frames.flags.writeable = False
    for permuted in exchanged(X[[1, 0]], random_state=0):
        np.testing.assert_array_equal(permuted.spans, X[[1, 0]].spans)
    np.testing.assert_array_equal(X.frames, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"over": "frames"}, "The 'over' parameter of permutation_importance must"),
        ({"n_parts": 0}, "The 'n_parts' parameter"),
        ({"n_repeats": 0}, "The 'n_repeats' parameter"),
        ({"scoring": "best"}, "The 'scoring' parameter"),
        (
            {"groups": [[0], [1, 3]]},
            r"groups\[1\] must have indices from 0 to 2, got \[1, 3\]",
        ),
        ({"groups": [[-1]]}, r"groups\[0\] must have indices from 0 to 2"),
        ({"groups": [[0.5]]}, r"groups\[0\] must be a sequence of feature indices"),
        ({"groups": [[0], []]}, r"groups\[1\] must be a sequence of feature indices"),
        ({"groups": [0, 1]}, r"groups\[0\] must be a sequence of feature indices"),
        ({"groups": [[0]], "over": "time"}, "groups needs over='features', got over='time'"),
        ({"sample_weight": np.ones(3)}, r"sample_weight.shape == \(3,\), expected \(60,\)"),
    ],
)
def test_bad_requests_are_named(settings, message, fitted, bump):
    with pytest.raises(ValueError, match=message):
        permutation_importance(fitted, *bump, **settings)


def test_other_numbers_of_targets_are_refused(fitted, bump):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[60, 59\]"):
        permutation_importance(fitted, bump[0], bump[1][1:])


def named(X, names=("left", "right", "up")):
    return [pd.DataFrame(x, columns=list(names)) for x in X]


TABLES = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "arrow": pa.Table.from_pandas,
}


@pytest.mark.fault(106)
@pytest.mark.parametrize("library", TABLES)
def test_data_frames_give_names_and_no_warning(library, bump):
    y = bump[1]
    X = [TABLES[library](frame) for frame in named(bump[0])]
    by_name = Framewise(ColumnTransformer([("scale", StandardScaler(), ["left", "right", "up"])]))
    for model in (
        DejaVidClassifier(**QUICK),
        make_pipeline(by_name, DejaVidClassifier(**QUICK)),
    ):
        model.fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = permutation_importance(model, X, y, n_repeats=2, random_state=0)
        assert result.names.tolist() == ["left", "right", "up"]
        assert result.importances_mean.argmax() == 1


@pytest.mark.fault(106)
def test_names_do_not_change_a_number(fitted, bump):
    X, y = bump
    settings = {"n_repeats": 2, "random_state": 0}
    expected = permutation_importance(fitted, X, y, **settings)
    assert expected.names.tolist() == ["x0", "x1", "x2"]
    again = permutation_importance(fitted, named(X), y, **settings)
    np.testing.assert_array_equal(again.importances, expected.importances)
    assert again.names.tolist() == ["left", "right", "up"]
    with_names = DejaVidClassifier(**QUICK).fit(named(X), y)
    with pytest.warns(UserWarning, match="does not have valid feature names") as caught:
        unnamed = permutation_importance(with_names, X, y, **settings)
    assert len(caught) == 1
    assert unnamed.names.tolist() == ["left", "right", "up"]
    np.testing.assert_array_equal(unnamed.importances, expected.importances)
    with pytest.raises(ValueError, match="feature names should match"):
        permutation_importance(with_names, named(X, ["up", "right", "left"]), y, **settings)


@pytest.mark.fault(106)
def test_groups_and_parts_of_time_have_names(fitted, bump):
    X, y = bump
    grouped = permutation_importance(fitted, named(X), y, groups=[[0, 2], [1]], n_repeats=1)
    assert grouped.names.tolist() == ["left, up", "right"]
    by_time = permutation_importance(fitted, X, y, over="time", n_parts=3, n_repeats=1)
    assert by_time.names.tolist() == ["0%-33.3%", "33.3%-66.7%", "66.7%-100%"]


@pytest.mark.fault(106)
def test_a_data_frame_of_single_frames_stays_one(rng):
    table = pd.DataFrame(rng.standard_normal((20, 2)), columns=["left", "right"])
    y = (table["left"] > 0).to_numpy().astype(int)
    model = make_pipeline(StandardScaler(), DejaVidClassifier(n_epochs=5, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataDimensionalityWarning)  # rows are meant
        result = permutation_importance(model.fit(table, y), table, y, n_repeats=2, random_state=0)
    assert result.names.tolist() == ["left", "right"]
    assert result.importances_mean.argmax() == 0


@pytest.mark.fault(96, 106)
@pytest.mark.parametrize("imputer", [Interpolate(), Framewise(SimpleImputer())], ids=str)
def test_missing_values_reach_a_pipeline_that_fills_them_in(imputer, bump):
    X, y = bump
    values = X.frames.copy()
    values[::7, 0] = np.nan
    X = TSEArray.from_packed(values, X.offsets)
    model = make_pipeline(imputer, DejaVidClassifier(**QUICK)).fit(X, y)
    result = permutation_importance(model, X, y, n_repeats=2, random_state=0)
    assert result.importances_mean.argmax() == 1


@pytest.mark.fault(94)
@pytest.mark.filterwarnings("ignore:X is a 2-D array:sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_single_sequence_is_refused_as_by_predict(fitted, bump, n_jobs):
    X, y = bump
    pipeline = make_pipeline(Interpolate(), DejaVidClassifier(**QUICK)).fit(X, y)
    for model in (fitted, pipeline):
        with pytest.raises(ValueError, match=r"was fitted to sequences of several frames.*\[X\]"):
            permutation_importance(model, X[0], np.zeros(len(X[0])), n_jobs=n_jobs)


@pytest.mark.fault(94)
@pytest.mark.filterwarnings("ignore:X is a 2-D array:sklearn.exceptions.DataDimensionalityWarning")
def test_a_table_has_the_importances_of_its_rows_as_sequences(rng):
    table = rng.standard_normal((20, 2))
    y = (table[:, 0] > 0).astype(int)
    model = DejaVidClassifier(n_epochs=5, random_state=0).fit(table, y)
    results = [
        permutation_importance(model, X, y, n_repeats=2, random_state=0).importances
        for X in (table, table[:, None])
    ]
    np.testing.assert_array_equal(*results)
    assert results[0].mean(axis=1).argmax() == 0


@pytest.mark.fault(30)
def test_weights_that_are_text_are_refused(fitted, bump):
    X, y = bump
    with pytest.raises(ValueError, match="sample_weight cannot be read as numbers"):
        permutation_importance(fitted, X, y, sample_weight=["1"] * len(X))


@pytest.mark.parametrize("through_pipeline", [False, True])
def test_a_container_gives_its_names_and_stays_one(through_pipeline, fitted, bump):
    names, y = ["left", "right", "up"], bump[1]
    X = TSEArray(bump[0], feature_names=names)
    model = DejaVidClassifier(**QUICK)
    model = (make_pipeline(Interpolate(), model) if through_pipeline else model).fit(X, y)
    settings = {"n_repeats": 2, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = permutation_importance(model, X, y, **settings)
        without = permutation_importance(fitted, X, y, **settings)
    expected = permutation_importance(fitted, *bump, **settings)
    for found in (result, without):
        assert found.names.tolist() == names
        np.testing.assert_array_equal(found.importances, expected.importances)
    other = TSEArray(X, feature_names=names[::-1])
    with pytest.raises(ValueError, match="same order"):
        permutation_importance(model, other, y, **settings)


def test_an_estimator_gets_the_container_that_was_given(bump):
    X = TSEArray(bump[0], feature_names=["left", "right", "up"])
    recording = Recording()
    recording.feature_names_in_ = np.array(X.feature_names, dtype=object)
    permutation_importance(recording, X, None, n_repeats=1, random_state=0)
    assert [asked.feature_names for asked in recording.asked] == [X.feature_names] * 4
