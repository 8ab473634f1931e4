import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from skdejavid import TSEArray
from skdejavid.sequences.pairs import check_no_pairs, check_no_records

X = np.ones((3, 2))
FRAME = pd.DataFrame({"id": [0, 0, 1, 1], "a": [1.0, 2.0, 3.0, 4.0]})


@pytest.mark.fault(111, 112)
@pytest.mark.parametrize(
    ("items", "message"),
    [
        (lambda: list(FRAME.groupby("id")), r"\(int, DataFrame\).* \[x for _, x in X\].*from_long"),
        (
            lambda: list(pl.DataFrame({"id": [0, 1], "a": [1.0, 2.0]}).group_by("id")),
            r"\(tuple, DataFrame\).*pass \[x for _, x in X\]\. Their columns must be features only",
        ),
        (lambda: [(X, 1), (X[:2], 0)], r"\(ndarray, int\).*pass \[x for x, _ in X\].* as y"),
        (lambda: [(X.tolist(), "a")], r"\(list, str\).*pass \[x for x, _ in X\]"),
        (lambda: [[1, X]], r"\(int, ndarray\).*pass \[x for _, x in X\]"),
        (lambda: [(X, 1, 0.5)], r"\(ndarray, int, float\).*pass \[item\[0\] for item in X\]"),
        (
            lambda: torch.utils.data.TensorDataset(torch.ones(4, 3, 2), torch.ones(4)),
            r"\(Tensor, Tensor\).*pass \[x for x, _ in X\]",
        ),
        (
            lambda: torch.utils.data.TensorDataset(torch.ones(4, 3, 2), torch.ones(4, 5)),
            r"\(Tensor, Tensor\).*pass \[x for x, _ in X\]",
        ),
    ],
)
def test_a_sequence_with_its_label_or_name_is_told_from_a_sequence(items, message):
    with pytest.raises(TypeError, match=r"X\[0\] is a (tuple|list) " + message):
        TSEArray(items())


@pytest.mark.parametrize(
    "items",
    [
        [((1.0, 2.0), (3.0, 4.0))],
        [(np.ones(2), np.ones(2))],
        [[torch.ones(2), [1.0, 1.0]]],
        [X, X],
        [[], []],
        np.ones((2, 3, 2)),
        np.array([None, None]),
    ],
    ids=str,
)
def test_sequences_are_no_pairs(items):
    check_no_pairs(items)


@pytest.mark.fault(111, 112)
def test_records_are_named_as_such():
    records = FRAME.to_records(index=False)
    message = r"is an array of records with the fields \['id', 'a'\]: pass pandas.DataFrame\("
    with pytest.raises(TypeError, match="^X " + message + r"X\)"):
        TSEArray(records)
    with pytest.raises(TypeError, match=r"^X\[1\] " + message + r"X\[1\]\)"):
        TSEArray([np.ones((2, 2)), records])
    check_no_records(np.ones(3), "X")
    np.testing.assert_array_equal(TSEArray([pd.DataFrame(records)])[0], FRAME.to_numpy())
