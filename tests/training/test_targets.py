from datetime import date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
import torch

from skdejavid import TSEArray
from skdejavid.training.targets import (
    check_targets,
    class_margins,
    class_weights,
    positive_weights,
    scaled_weights,
)


def test_targets_come_back_as_they_are(ragged):
    X, y = ragged
    np.testing.assert_array_equal(check_targets(y, TSEArray(X), "Some"), y)
    assert check_targets(["a", "b"] * 6, TSEArray(X), "Some").tolist() == ["a", "b"] * 6


@pytest.mark.fault(21)
def test_the_estimator_is_named_when_targets_are_missing(ragged):
    with pytest.raises(ValueError, match="This Some estimator requires y to be passed"):
        check_targets(None, TSEArray(ragged[0]), "Some")


@pytest.mark.fault(23)
@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pd.NA], ids=repr)
def test_a_missing_label_among_strings_is_named(missing, ragged):
    y = np.array(["a", "b", missing] * 4, dtype=object)
    with pytest.raises(ValueError, match=r"Input y contains NaN or another missing label: y\[2\]"):
        check_targets(y, TSEArray(ragged[0]), "Some")


@pytest.mark.fault(87)
@pytest.mark.parametrize("container", [list, tuple])
def test_a_label_that_numpy_would_cut_is_named(container, ragged):
    X = TSEArray(ragged[0])
    y = ["a", "a\0", "b"] * 4
    with pytest.raises(ValueError, match=r"y\[1\] is 'a\\x00': NumPy cuts null characters"):
        check_targets(container(y), X, "Some")
    kept = check_targets(np.array(y, dtype=object), X, "Some")
    assert kept.tolist() == y


@pytest.mark.fault(87)
def test_a_masked_label_is_named(ragged):
    y = np.ma.array(["a", "b"] * 6, mask=[False, False, True, *[False] * 9])
    with pytest.raises(ValueError, match=r"another missing label: y\[2\] is masked"):
        check_targets(y, TSEArray(ragged[0]), "Some")


@pytest.mark.fault(115)
@pytest.mark.parametrize("dtype", ["Int64", "boolean", "string", "category", "float64"])
def test_a_missing_label_of_any_kind_is_named(dtype, ragged):
    y = pd.Series([1, 0, None] * 4, dtype="Int64").astype(dtype)
    with pytest.raises(ValueError, match=r"Input y contains NaN or another missing label: y\[2\]"):
        check_targets(y, TSEArray(ragged[0]), "Some")


def test_strings_and_numbers_together_are_no_labels(ragged):
    y = np.array(["a", "b", 3] * 4, dtype=object)
    with pytest.raises(TypeError, match=r"y\[0\] is 'a', y\[2\] is 3"):
        check_targets(y, TSEArray(ragged[0]), "Some")


def test_strings_may_be_objects(ragged):
    y = np.array(["a", np.str_("b"), "c"] * 4, dtype=object)
    assert check_targets(y, TSEArray(ragged[0]), "Some").tolist() == y.tolist()


@pytest.mark.fault(25)
def test_only_sequences_of_one_frame_each_get_a_hint():
    for frames, has_hint in ((np.zeros((4, 1, 2)), True), (np.zeros((4, 3, 2)), False)):
        with pytest.raises(ValueError, match=r"samples: \[4, 1\]") as error:
            check_targets([0], TSEArray(frames), "Some")
        assert ("pass a single sequence as [x]" in str(error.value)) == has_hint


def test_samples_of_weight_zero_do_not_count():
    y = np.array([1, 0, 1, 0])
    kept, warning = positive_weights(np.array([0.5, 1.0, 0.0, 0.0]), y)
    assert kept.tolist() == [0, 1]
    assert warning is None


@pytest.mark.fault(31)
def test_a_class_that_does_not_count_is_named():
    kept, warning = positive_weights(np.array([1.0, 0.0]), np.array(["a", "b"]))
    assert kept.tolist() == [0]
    assert warning == "all samples of class 'b' have zero weight: the class is left out"


@pytest.mark.fault(30)
def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(ValueError, match="at least one non-zero"):
        positive_weights(np.zeros(3), np.arange(3))


@pytest.mark.parametrize("unit", [1e-300, 1e-12, 1.0, 3.0, 1e16, 1e300])
def test_weights_are_scaled_to_about_one_without_losing_a_bit(unit):
    weight = np.array([0.0, 1.0, 2.0, 3.0]) * unit
    scaled = scaled_weights(weight)
    assert 0.5 <= scaled.max() < 1
    np.testing.assert_array_equal(scaled * (weight[1] / scaled[1]), weight)


def test_weights_of_zero_stay_zero():
    assert scaled_weights(np.zeros(3)).tolist() == [0, 0, 0]


def test_balanced_classes_have_the_same_sum_of_weights():
    y = np.array(["a", "b", "a", "a", "b", "c"])
    weight = np.array([1.0, 2.0, 3.0, 0.0, 4.0, 0.5])
    balanced = weight * class_weights("balanced", y, weight)
    sums = [balanced[y == label].sum() for label in "abc"]
    np.testing.assert_allclose(sums, weight.sum() / 3)


def test_balancing_counts_weights_as_copies():
    y, weight = np.array([0, 1, 1, 2]), np.array([3.0, 1.0, 2.0, 0.0])
    copies = np.repeat(y, weight.astype(int))
    expected = class_weights("balanced", copies, np.ones(6))
    np.testing.assert_allclose(
        np.repeat(class_weights("balanced", y, weight), weight.astype(int)), expected
    )


def test_weights_are_those_of_named_classes_and_else_1():
    y = np.array(["a", "b", "c", "a"])
    factors = class_weights({"a": 2.0, "b": 0.0}, y, np.ones(4))
    assert factors.tolist() == [2.0, 0.0, 1.0, 2.0]


@pytest.mark.fault(102)
def test_margins_grow_with_a_power_of_the_factors():
    labels = np.array([2, 0, 1, 1])
    factors = np.array([16.0, 0.5, 2.0, 2.0])
    np.testing.assert_allclose(class_margins(factors, labels), [1.0, 4**0.6, 8.0])
    y = np.repeat(["often", "rarely"], [90, 10])
    balanced = class_weights("balanced", y, np.ones(100))
    np.testing.assert_allclose(class_margins(balanced, (y == "rarely").astype(int)), [1, 9**0.6])


@pytest.mark.fault(102)
@pytest.mark.parametrize("smallest", [5e-324, 1e-300, 1e-12, 1e-4])
def test_margins_stay_moderate(smallest):
    margins = class_margins(np.array([smallest, 1.0, 1e300]), np.arange(3))
    assert margins.tolist() == [1.0, 100.0, 100.0]


@pytest.mark.fault(102)
@pytest.mark.parametrize("n_classes", [1, 2, 3, 7])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 0.3}])
def test_classes_with_the_same_factor_have_no_margins(n_classes, class_weight):
    y = np.arange(n_classes * 9) % n_classes
    if isinstance(class_weight, dict):
        class_weight = dict.fromkeys(range(n_classes), 0.3)
    weight = np.repeat(np.arange(9) / 7, n_classes)  # the same for all classes
    assert class_margins(class_weights(class_weight, y, weight), y) is None


@pytest.mark.fault(32)
@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), None, "1"])
def test_weights_of_classes_that_are_no_weights_are_refused(weight):
    with pytest.raises(ValueError, match=r"class_weight\['b'\] must be a finite number"):
        class_weights({"a": 1.0, "b": weight}, np.array(["a", "b"]), np.ones(2))


@pytest.mark.fault(32)
def test_weights_of_classes_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"class_weight\['z'\] names a class that is not in y"):
        class_weights({"a": 1.0, "z": 1.0}, np.array(["a", "b"]), np.ones(2))


MOMENTS = ["2020-01-01", "2021-06-05T04:03:02", "2022-01-01"]


@pytest.mark.fault(32)
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
@pytest.mark.parametrize(
    "label",
    [
        np.datetime64(MOMENTS[1]),
        np.datetime64(MOMENTS[1], "ns"),
        pd.Timestamp(MOMENTS[1]),
        pd.Timestamp(MOMENTS[1], tz="UTC").tz_convert("Asia/Tokyo"),
        datetime(2021, 6, 5, 4, 3, 2),
        datetime(2021, 6, 5, 2, 3, 2, tzinfo=timezone(timedelta(hours=-2))),
    ],
    ids=repr,
)
def test_weights_name_moments_whatever_their_unit_and_type(label, unit):
    y = np.array(MOMENTS, dtype=f"M8[{unit}]")
    assert class_weights({label: 7.0}, y, np.ones(3)).tolist() == [1, 7, 1]


@pytest.mark.fault(32)
@pytest.mark.parametrize("unit", ["s", "ns"])
@pytest.mark.parametrize(
    "label",
    [np.timedelta64(2, "m"), np.timedelta64(120, "s"), pd.Timedelta("2min"), timedelta(minutes=2)],
    ids=repr,
)
def test_weights_name_spans_of_time_whatever_their_unit_and_type(label, unit):
    y = np.array([60, 120, 0], dtype="m8[s]").astype(f"m8[{unit}]")
    assert class_weights({label: 7.0}, y, np.ones(3)).tolist() == [1, 7, 1]


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("label", "y"),
    [
        (np.timedelta64(1, "s"), np.array([0, 1])),
        (np.datetime64(1, "ns"), np.array([0, 1])),
        (1, np.array([0, 1], dtype="m8[s]")),
        (1, np.array([0, 1], dtype="M8[ns]")),
        (np.timedelta64(1, "s"), np.array([0, 1], dtype="M8[s]")),
        (pd.Timestamp(0) + pd.Timedelta("1us1ns"), np.array([0, 1], dtype="M8[us]")),
        ("1970-01-01T00:00:01", np.array([0, 1], dtype="M8[s]")),
        (date(1970, 1, 2), np.array([0, 1], dtype="M8[s]")),
    ],
    ids=repr,
)
def test_a_number_is_no_time_and_no_time_is_a_number(label, y):
    with pytest.raises(
        ValueError, match=r"class_weight\[.*\] names a class that is not in y"
    ) as error:
        class_weights({label: 7.0}, y, np.ones(2))
    assert y.dtype.kind != "M" or "['1970-01-01T00:00:00" in str(error.value)


@pytest.mark.fault(87)
@pytest.mark.parametrize("values", [["a", "b"], ["", "long " * 20]])
def test_strings_of_variable_width_are_labels(values, ragged):
    y = np.array(values * 6, dtype=np.dtypes.StringDType())
    assert check_targets(y, TSEArray(ragged[0]), "Some").tolist() == y.tolist()
    missing = np.array([*values * 5, "a", None], dtype=np.dtypes.StringDType(na_object=None))
    with pytest.raises(ValueError, match=r"y\[11\] is None"):
        check_targets(missing, TSEArray(ragged[0]), "Some")


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    "y",
    [
        torch.tensor([0.0, 1.0] * 6, requires_grad=True),
        torch.tensor([0, 1] * 6, dtype=torch.bfloat16),
        torch._neg_view(torch.tensor([0, -1] * 6)),
        [torch.tensor(float(i % 2), requires_grad=True) for i in range(12)],
        [torch.tensor(i % 2).bfloat16() for i in range(12)],
    ],
    ids=["gradient", "bfloat16", "negated", "list of gradients", "list of bfloat16"],
)
def test_tensors_are_labels(y, ragged):
    assert check_targets(y, TSEArray(ragged[0]), "Some").tolist() == [0, 1] * 6


@pytest.mark.parametrize(
    "y",
    [torch.tensor([0, 1] * 6).to_sparse(), torch.zeros(12, device="meta")],
    ids=["sparse", "meta"],
)
def test_a_tensor_without_dense_values_is_named_as_y(y, ragged):
    with pytest.raises(TypeError, match=r"^y cannot be read: .* Pass a dense tensor") as error:
        check_targets(y, TSEArray(ragged[0]), "Some")
    assert "X." not in str(error.value)
