"""A number as a parameter has a value and no width, whichever library it comes from.

Every numeric parameter of every public class and function is found by its annotation and must have
a call in ``CALLS``, so that none can be forgotten.
"""

import importlib.resources
import inspect
import re
from enum import IntEnum
from fractions import Fraction
from functools import cache
from numbers import Integral

import joblib
import numpy as np
import pytest
import torch
from public_api import MODULES, public_functions
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skdejavid import (
    DejaVidClassifier,
    Resample,
    TimeDifferences,
    TSEArray,
    TSEExtractor,
    TSEStore,
    alignment,
    datasets,
    dtw_distances,
)
from skdejavid.compat.parameters import as_bool, as_python, validated
from skdejavid.compat.sklearn import Interval
from skdejavid.compat.threads import count_threads
from skdejavid.inspection import permutation_importance
from skdejavid.nn import TimeWeightedDTW

INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.longlong]
INTEGERS += [np.uint8, np.uint16, np.uint32, np.uint64, np.ulonglong]
FLOATS = [np.float16, np.float32, np.float64, np.longdouble]


class Number(IntEnum):
    """Integers that are not exactly of type int."""

    TWO = 2


# --- one number ---------------------------------------------------------------------------------


@pytest.mark.fault(110)
@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_become_int(kind):
    for value in (np.iinfo(kind).min, 0, np.iinfo(kind).max):
        number = as_python(kind(value))
        assert (type(number), number) == (int, value)


@pytest.mark.fault(110)
@pytest.mark.parametrize("kind", FLOATS)
def test_floats_become_float(kind):
    for value in (0.5, 0.1, -2.0, np.inf):
        number = as_python(kind(value))
        assert (type(number), number) == (float, float(kind(value)))


@pytest.mark.fault(110)
def test_numbers_are_found_inside_of_containers_and_nothing_else_changes():
    assert as_python({np.int8(1): [np.float32(0.5), (np.uint8(3), "a")]}) == {1: [0.5, (3, "a")]}
    assert repr(as_python((np.True_, np.array(7), np.str_("b")))) == "(True, 7, 'b')"
    assert repr(as_python([Number.TWO, Fraction(1, 4)])) == "[2, 0.25]"
    generator, array = np.random.RandomState(0), np.arange(3)
    assert as_python(generator) is generator
    assert as_python(array) is array
    assert as_python(None) is None


@pytest.mark.fault(110)
def test_arguments_of_functions_are_checked_as_python_numbers():
    @validated({"size": [Interval(Integral, 3, None, closed="left")]})
    def area(size, other=None):
        return type(size), size * size, other

    weight = np.int8(5)
    assert area(np.uint8(100), weight) == (int, 10_000, weight)
    assert area(size=np.array(3))[1] == 9
    for value in (2, 3.0, True, "3", None):
        with pytest.raises(ValueError, match=r"The 'size' parameter of .*area must be an int in"):
            area(value)
    with pytest.raises(TypeError, match="size"):
        area()


@pytest.mark.parametrize("value", [10**400, -(10**400), Fraction(10**400)])
@pytest.mark.parametrize(
    "name", ["n_epochs", "n_timesteps", "learning_rate", "temperature", "max_time", "batch_size"]
)
def test_numbers_that_no_float_can_hold_are_out_of_range(name, value, ragged):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of DejaVidClassifier"):
        DejaVidClassifier(**{"n_epochs": 1} | {name: value}).fit(*ragged)


@pytest.mark.fault(110)
@pytest.mark.parametrize("kind", INTEGERS)
def test_numbers_of_threads_do_not_wrap_around(kind):
    assert count_threads(kind(100)) == 100
    with pytest.raises(TypeError, match="n_jobs must be an int or None"):
        count_threads(2.0)


@pytest.mark.fault(110)
@pytest.mark.parametrize("value", [True, np.True_, 2.0, np.float32(2.0), "2"])
def test_what_is_not_an_integer_is_none(value, ragged):
    with pytest.raises(ValueError, match="The 'batch_size' parameter of DejaVidClassifier"):
        DejaVidClassifier(batch_size=value).fit(*ragged)


# --- all parameters -----------------------------------------------------------------------------


NUMERIC = re.compile(r"\b(int|float|Lag|Length|ClassWeight)\b")
# Passed on unchanged as an attribute of the error.
NOT_USED = {("VideoDecodeError", "frame")}


def numeric_parameters():
    found = set()
    for name, function in public_functions():
        for parameter in inspect.signature(function).parameters.values():
            if NUMERIC.search(re.sub(r"Callable\[.*?\]", "", str(parameter.annotation))):
                found.add((name, parameter.name))
    return found - NOT_USED


@cache
def orders():
    X, y = datasets.make_order_sequences(30, random_state=0)
    return X, y


def state_of(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def fitted(**parameters):
    X, y = orders()
    quick = {"n_timesteps": 3, "n_epochs": 2, "batch_size": 7, "random_state": 0}
    clf = DejaVidClassifier(**quick | parameters).fit(X, y)
    return [state_of(clf), clf.predict_proba(X[:5])]


def fitted_with_stopping(**parameters):
    more = {"n_epochs": 8, "early_stopping": True, "validation_fraction": 0.25}
    return fitted(**more | parameters)


def transformed_by(transformer):
    X = orders()[0][:4]
    values = transformer.fit(X).transform(X).frames
    return [state_of(transformer), values, list(transformer.get_feature_names_out())]


def video():
    rng = np.random.RandomState(0)
    return rng.randint(0, 256, (12, 16, 20, 3), dtype=np.uint8)


def extracted(**parameters):
    quick = {"width": 4, "stride": 2, "clip_length": 2, "frame_size": 8}
    extractor = TSEExtractor(lambda clips: clips.mean(dim=(3, 4)).flatten(1), **quick | parameters)
    result = extractor.fit_transform([video(), video()[:7]])
    return [result.frames, result.offsets, result.spans]


def stored(tmp_path, n_shards=2, shard=1, **parameters):
    store = TSEStore.create(tmp_path, n_shards=n_shards)
    with store.write(shard) as writer:
        writer.append("a", np.ones((2, 3)), **{"n_bytes": 5, "position": 1} | parameters)
    store = TSEStore(tmp_path)
    return [store.n_shards, store.ids, {p.name: p.read_bytes() for p in tmp_path.rglob("*.json")}]


def failed(tmp_path, **parameters):
    with TSEStore.create(tmp_path).write() as writer:
        writer.fail("a", "broken", **parameters)
    store = TSEStore(tmp_path)
    return [repr(store.file("a")), *map(repr, store.failures)]


def extracted_to_shard(tmp_path, shard):
    extractor = TSEExtractor(
        lambda clips: clips.mean(dim=(2, 3, 4)), store=tmp_path, encoder_id="mean", frame_size=8
    )
    store = extractor.extract([video(), video()[:7]], ids=["a", "b"], shard=shard)
    return [store.ids, store.n_shards]


def verified(tmp_path, **parameters):
    videos = {id: video()[:n] for id, n in (("a", 12), ("b", 9), ("c", 7))}
    extractor = TSEExtractor(
        lambda clips: clips.mean(dim=(2, 3, 4)), store=tmp_path, encoder_id="mean", frame_size=8
    )
    store = extractor.extract(list(videos.values()), ids=list(videos))
    return list(store.verify(extractor, videos, **{"sample": 2} | parameters))


def importance(**parameters):
    X, y = orders()
    clf = DejaVidClassifier(n_epochs=1, n_timesteps=3, random_state=0).fit(X, y)
    quick = {"n_repeats": 2, "random_state": 0}
    with joblib.parallel_config("threading"):
        return permutation_importance(clf, X, y, **quick | parameters)["importances"]


def matched(**parameters):
    lags = {"lags": (1, 0.25)}
    module = TimeWeightedDTW(torch.ones(2, 3, 6), **lags | parameters)
    return [module([np.ones((4, 2), dtype=np.float32)]).detach().numpy(), module.lags]


def written_video(tmp_path, fps):
    datasets.write_video(tmp_path / "a.avi", video(), codec="mpeg4", fps=fps)
    return (tmp_path / "a.avi").read_bytes()


# For each parameter: a function of its value, and values.
CALLS = {
    ("DejaVidClassifier", name): (lambda value, name=name: fitted(**{name: value}), values)
    for name, values in {
        "n_timesteps": [3, 100],
        "differences": [(1, 0.25), [3]],
        "temperature": [0.5, 0.3, 1],
        "dba_samples": [2, 200],
        "dba_max_iter": [1, 100],
        "learning_rate": [0.03125, 0.01, 1],
        "centroid_learning_rate": [0.125, 0.1],
        "batch_size": [7, 100, 200],
        "n_epochs": [2, 3],
        "max_time": [100, 64.5],
        "n_jobs": [1, 2, -1],
        "random_state": [0, 100],
        "verbose": [0, 1],
        "class_weight": [{0: 2, 1: 0.5}, {2: 3.0}],
    }.items()
}
CALLS |= {
    ("DejaVidClassifier", name): (lambda value, name=name: fitted_with_stopping(**{name: value}), v)
    for name, v in {"validation_fraction": [0.25, 0.3], "n_iter_no_change": [1, 100]}.items()
}
CALLS |= {
    ("TimeDifferences", "lags"): (lambda v: transformed_by(TimeDifferences(v)), [(1, 0.25), [2]]),
    ("Resample", "n_timesteps"): (lambda v: transformed_by(Resample(v)), [1, 5, 120]),
}
CALLS |= {
    ("TSEExtractor", name): (lambda value, name=name: extracted(**{name: value}), values)
    for name, values in {
        "width": [4, 0.5, (2, 4), (4, 0.5)],
        "stride": [1, 3, 0.25],
        "clip_length": [1, 2],
        "frame_size": [8, (10, 8)],
        "mean": [0.5, (0.5, 0.25, 1), 1],
        "std": [0.5, (0.5, 0.25, 1), 1],
        "batch_size": [1, 3, 100],
        "n_jobs": [1, 2],
        "max_pixels": [320, 2**26],
        "verbose": [0, 1],
    }.items()
}
CALLS |= {
    ("TSEArray.to_padded", "fill_value"): (
        lambda value: TSEArray([np.ones((2, 1)), np.ones((1, 1))]).to_padded(value),
        [0.5, 7, -0.1],
    ),
    ("dtw_distances", "n_jobs"): (
        lambda value: dtw_distances(orders()[0], np.ones((2, 3, 6)), n_jobs=value),
        [1, 2],
    ),
    **{
        (name, "n_jobs"): (
            lambda value, name=name: getattr(alignment, name)(
                orders()[0], np.ones((2, 3, 6)), None, diagonal=True, device="cpu", n_jobs=value
            ),
            [1, 2],
        )
        for name in ("compute_distances", "compute_distances_by_timestep")
    },
    ("permutation_importance", "n_parts"): (
        lambda value: importance(over="time", n_parts=value),
        [2, 5],
    ),
    ("permutation_importance", "groups"): (
        lambda value: importance(groups=value),
        [[[0, 1], [5]]],
    ),
    ("TSEStore.create", "n_shards"): (lambda v, tmp_path: stored(tmp_path, v), [2, 3]),
    ("TSEStore.write", "shard"): (lambda v, tmp_path: stored(tmp_path, shard=v), [0, 1]),
    ("write_video", "fps"): (lambda v, tmp_path: written_video(tmp_path, v), [25, 30]),
}
CALLS |= {
    ("TSEStore.verify", name): (
        lambda value, tmp_path, name=name: verified(tmp_path, **{name: value}),
        values,
    )
    for name, values in {
        "sample": [1, 3],
        "tolerance": [0.5, 1],
        "random_state": [0, 7],
        "verbose": [0, 1],
    }.items()
}
CALLS["TSEExtractor.extract", "shard"] = (
    lambda value, tmp_path: extracted_to_shard(tmp_path, value),
    [(0, 1), (0, 2)],
)
CALLS |= {
    ("permutation_importance", name): (lambda value, name=name: importance(**{name: value}), [1, 3])
    for name in ("n_repeats", "n_jobs", "random_state")
}
CALLS |= {
    ("StoreWriter.append", name): (
        lambda value, tmp_path, name=name: stored(tmp_path, **{name: value}),
        [0, 120],
    )
    for name in ("n_bytes", "position", "modified_ns")
}
CALLS |= {
    ("StoreWriter.fail", name): (
        lambda value, tmp_path, name=name: failed(tmp_path, **{name: value}),
        [0, 120],
    )
    for name in ("n_bytes", "frame", "modified_ns")
}
CALLS |= {
    ("TimeWeightedDTW", name): (lambda value, name=name: matched(**{name: value}), values)
    for name, values in {"lags": [(1, 0.25)], "n_jobs": [1, 2]}.items()
}
CALLS |= {
    (function, name): (
        lambda value, function=function, name=name, first=first: getattr(datasets, function)(
            **{first: 6, "random_state": 0} | {name: value}
        ),
        values,
    )
    for function, first, names in (
        ("make_order_sequences", "n_sequences", {"n_features": [3, 120], "noise": [0.5, 0.3, 1]}),
        (
            "make_event_sequences",
            "n_sequences",
            {
                "n_classes": [2, 3],
                "weights": [[3, 1], [0.5, 0.25]],
                "n_features": [3, 120],
                "noise": [0.5, 0.3, 1],
                "lengths": [(30, 40)],
            },
        ),
        ("make_order_videos", "n_videos", {"size": [16, 32]}),
        ("make_event_frames", "n_frames", {"size": [16, 120]}),
    )
    for name, values in {first: [4, 5], "random_state": [0, 120], **names}.items()
}
WITH_FOLDER = {
    key for key, (call, _) in CALLS.items() if "tmp_path" in inspect.signature(call).parameters
}


@pytest.mark.fault(110)
def test_every_numeric_parameter_of_everything_public_is_here():
    found = numeric_parameters()
    assert len(found) > 50
    assert found - set(CALLS) == set()


def numbers_like(value):
    """Return the same number in all kinds that hold it exactly."""
    if isinstance(value, int):
        kinds = [kind for kind in INTEGERS if np.iinfo(kind).min <= value <= np.iinfo(kind).max]
        return [kind(value) for kind in kinds] + [np.array(value)]
    return [kind(value) for kind in FLOATS if float(kind(value)) == value] + [np.array(value)]


def equivalents(value):
    """Return values that say the same with NumPy's numbers."""
    if isinstance(value, dict):
        kinds = zip(*(numbers_like(item)[:3] for item in value.values()), strict=True)
        return [
            {np.int64(key): item for key, item in zip(value, items, strict=True)} for items in kinds
        ]
    if isinstance(value, (list, tuple)) and not isinstance(value[0], (list, tuple)):
        each = zip(*(numbers_like(item)[:3] for item in value), strict=True)
        return [type(value)(items) for items in each] + [np.array(value)]
    if isinstance(value, list):
        return [[np.array(item, dtype=kind) for item in value] for kind in INTEGERS]
    return numbers_like(value)


def bits(result):
    """Return a result in a form that is equal only if all bits and types are."""
    if isinstance(result, np.ndarray):
        return result.dtype.str, result.shape, result.tobytes()
    if isinstance(result, TSEArray):
        return bits(result.frames), bits(result.offsets)
    if isinstance(result, (list, tuple)):
        return [bits(item) for item in result]
    if isinstance(result, dict):
        return {key: bits(item) for key, item in result.items()}
    return type(result), result


@pytest.mark.slow
@pytest.mark.fault(110)
@pytest.mark.parametrize("key", sorted(CALLS), ids=" ".join)
def test_the_kind_of_a_number_changes_no_bit(key, tmp_path):
    call, values = CALLS[key]
    n_calls = 0

    def result(value):
        nonlocal n_calls
        n_calls += 1
        if key not in WITH_FOLDER:
            return bits(call(value))
        folder = tmp_path / str(n_calls)
        folder.mkdir()
        return bits(call(value, folder))

    with np.errstate(all="raise", under="ignore"):
        for value in values:
            expected = result(value)
            for other in equivalents(value):
                is_mixed = key == ("TSEExtractor", "width") and value == (4, 0.5)
                if is_mixed and isinstance(other, np.ndarray):
                    continue  # an array of floats: no number of frames, see below
                assert result(other) == expected, (value, other)


@pytest.mark.fault(110)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, object])
def test_lags_in_an_array_are_those_of_a_list(dtype):
    lags = np.array([1, 0.25, 16], dtype=dtype)
    X = orders()[0][:3]
    expected = TimeDifferences([1, 0.25, 16]).fit_transform(X).frames
    np.testing.assert_array_equal(TimeDifferences(lags).fit_transform(X).frames, expected)
    with pytest.raises(ValueError, match=r"lags\[0\] must be an int of at least 1"):
        TimeDifferences([1.0, 0.25]).fit(X)
    with pytest.raises(ValueError, match=r"lags\[1\]"):
        TimeDifferences(np.array([1, 1.5])).fit(X)


@pytest.mark.fault(110)
def test_parameters_stay_as_they_were_given():
    """As scikit-learn's clone requires."""
    given = {"batch_size": np.uint8(200), "temperature": np.float16(0.5), "n_epochs": np.int8(2)}
    clf = DejaVidClassifier(differences=np.array([2]), **given)
    clone(clf.fit(*orders()))
    for name, value in given.items():
        assert clf.get_params()[name] is value


@pytest.mark.slow
@pytest.mark.fault(110)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_grids_of_numpy_are_grids_of_numbers():
    X, y = orders()

    def search(grid):
        clf = DejaVidClassifier(n_epochs=2, n_timesteps=3, random_state=0)
        found = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, y)
        return found.cv_results_["mean_test_score"], found.best_estimator_.centroids_

    as_arrays = search({"batch_size": np.arange(5, 8), "temperature": np.logspace(-1, 0, 3)})
    as_lists = search({"batch_size": [5, 6, 7], "temperature": np.logspace(-1, 0, 3).tolist()})
    for mine, expected in zip(as_arrays, as_lists, strict=True):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.fault(110)
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, bool])
def test_sample_weights_of_any_kind_are_numbers(dtype):
    X, y = orders()
    weight = np.arange(30) % 2 + (0 if dtype is bool else 1)
    clf = DejaVidClassifier(n_epochs=1, n_timesteps=3, random_state=0)
    expected = clone(clf).fit(X, y, weight.astype(float)).centroids_
    np.testing.assert_array_equal(clf.fit(X, y, weight.astype(dtype)).centroids_, expected)


def test_all_public_modules_are_searched():
    folder = importlib.resources.files("skdejavid")
    names = {path.stem for path in folder.iterdir() if path.name.endswith(".py")}
    assert {name for name in names if not name.startswith("_")} - set(MODULES) == set()


SPAN = np.timedelta64(2)


@pytest.mark.parametrize("time", [SPAN, np.timedelta64(2, "ns"), np.datetime64(2, "ns")], ids=repr)
def test_times_are_no_numbers(time):
    """NumPy counts spans as integers, and gives both without a unit or in ns as ints."""
    assert as_python(time) is time
    assert as_python([1, (time,)]) == [1, (time,)]
    for name in ("size", "random_state"):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of make_order_videos must"):
            datasets.make_order_videos(2, **{name: time})
    with pytest.raises(TypeError, match="n_jobs must be an int or None"):
        count_threads(time)


@pytest.mark.fault(33)
@pytest.mark.parametrize(
    "name",
    ["n_epochs", "max_time", "learning_rate", "n_jobs", "random_state", "verbose", "differences"],
)
def test_a_span_of_time_as_a_parameter_is_named(name, ragged):
    message = f"The '{name}' parameter of DejaVidClassifier must not be a span of time"
    for span in (SPAN, np.array(SPAN), np.timedelta64(2, "s")):
        with pytest.raises(ValueError, match=message):
            DejaVidClassifier(**{name: span}).fit(*ragged)


@pytest.mark.fault(33)
@pytest.mark.parametrize("name", ["n_parts", "n_repeats", "n_jobs", "random_state"])
def test_a_span_of_time_as_an_argument_is_named(name, ragged):
    message = f"The '{name}' parameter of permutation_importance must not be a span of time"
    with pytest.raises(ValueError, match=message):
        permutation_importance(DejaVidClassifier(), *ragged, **{name: SPAN})


@pytest.mark.fault(33)
@pytest.mark.parametrize("weights", [{"a": SPAN}, {"a": np.array(SPAN)}], ids=repr)
def test_a_span_of_time_is_no_weight_of_a_class(weights, ragged):
    X, y = ragged
    with pytest.raises(ValueError, match=r"class_weight\['a'\] must be a finite number"):
        DejaVidClassifier(class_weight=weights).fit(X, np.where(y == y[0], "a", "b"))


def test_only_yes_and_no_are_flags():
    assert as_bool(True, "diagonal") is True
    assert as_bool(np.False_, "diagonal") is False
    for value in (1, 0, None, "no", "", [], np.array([True])):
        with pytest.raises(TypeError, match=r"^diagonal must be True or False, got"):
            as_bool(value, "diagonal")
