"""What cannot be read as sequences, and what the error says; what can is in test_sequences.py."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from skdejavid import check_sequences

GOOD = np.zeros((4, 3))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], r"Found array with 0 sample\(s\)"),
        (np.zeros((0, 3)), r"Found array with 0 sample\(s\)"),
        (np.zeros((0, 5, 3)), r"Found array with 0 sample\(s\)"),
        ([GOOD, np.zeros((0, 3))], r"X\[1\] has 0 timestep\(s\) \(shape=\(0, 3\)\)"),
        (np.zeros((2, 0, 3)), r"X\[0\] has 0 timestep\(s\)"),
        ([GOOD, np.zeros((4, 0))], r"X\[1\] has 0 feature\(s\) \(shape=\(4, 0\)\)"),
        (np.zeros((5, 0)), r"0 feature\(s\) \(shape=\(5, 0\)\) while a minimum of 1 is required"),
        ([GOOD, np.zeros((2, 5))], r"X\[1\] has 5 features, but X\[0\] has 3"),
        ([np.zeros((3, 7)), np.zeros((3, 9))], r"look\s+transposed.*TSEArray.from_aeon"),
        ([GOOD, np.zeros(3)], r"X\[1\]: expected 2-D .*got 1-D .*x\[:, None\]"),
        ([np.zeros(3), np.zeros(3)], r"X\[0\]: expected 2-D .*x\[:, None\]"),
        ([np.zeros((2, 8, 8, 3))], r"X\[0\]: expected 2-D .*got 4-D .*TSEExtractor"),
        (np.zeros((2, 5, 8, 8)), "Found array with dim 4.*TSEExtractor"),
        (np.zeros(5), "Expected 2D array, got 1D array instead"),
        ([1.0, 2.0], "Expected 2D array, got 1D array instead"),
        ([GOOD, GOOD + np.nan], r"Input X\[1\] contains NaN, first at frame 0, feature 0"),
        ([GOOD + np.inf], r"X\[0\] contains infinity or a value too large for dtype\('float64'\)"),
        ([[1, 2, 3], [1, 2]], r"X\[1\] has 2 number\(s\), but X\[0\] has 3.*x\[:, None\]"),
        ([[1, 2], [3j, 4]], r"Complex data not supported: X\[1\]"),
        ([GOOD, [[1, 2, 3], [4]]], r"X\[1\] is no array .* its frames differ in length"),
        (np.full((2, 3), np.nan), r"Input X\[0\] contains NaN"),
        ([GOOD.astype(complex)], r"Complex data not supported: X\[0\]"),
        (np.zeros((2, 3), dtype=complex), "Complex data not supported"),
        (np.zeros((2, 4, 3), dtype=complex), "Complex data not supported"),
        ([GOOD, np.full((4, 3), "a")], r"X\[1\] cannot be read as numbers"),
        (np.ma.masked_array(np.zeros((2, 4, 3))), "X is a masked array"),
        ([np.ma.masked_array(GOOD)], r"X\[0\] is a masked array"),
    ],
)
def test_bad_values_are_named(X, message):
    with pytest.raises(ValueError, match=message):
        check_sequences(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (None, "X is a NoneType. Expected a list of arrays"),
        (7, "X is a int. Expected a list of arrays"),
        ("clip.mp4", "X is a str, not sequences. To read videos, use TSEExtractor"),
        (Path("clip.mp4"), "X is a PosixPath, not sequences. To read videos, use TSEExtractor"),
        (["a.mp4", "b.mp4"], r"X\[0\] is a str, expected an array .*TSEExtractor"),
        (np.array(["a.mp4", "b.mp4"]), r"X\[0\] is a str_, expected an array .*TSEExtractor"),
        ([GOOD, Path("b.mp4")], r"X\[1\] is a PosixPath, expected an array .*TSEExtractor"),
        (scipy.sparse.csr_array(np.eye(3)), "Sparse data was passed, but dense data is required"),
        ([scipy.sparse.csr_array(np.eye(3))], r"X\[0\] is sparse, but dense data is required"),
        (OrderedDict({0: GOOD}), r"X is a OrderedDict.*Pass list\(X.values\(\)\)"),
        ((x for x in [GOOD]), r"X is a generator.*pass list\(X\)"),
        ({1, 2}, r"X is a set.*pass list\(X\)"),
        ([GOOD, np.full((4, 3), {}, dtype=object)], r"X\[1\] cannot be read as numbers"),
        (
            torch.nn.utils.rnn.pack_sequence([torch.zeros(4, 3), torch.zeros(2, 3)]),
            r"X is a PackedSequence.*unpack_sequence\(X\)",
        ),
    ],
    ids=str,
)
def test_bad_types_are_named(X, message):
    with pytest.raises(TypeError, match=message):
        check_sequences(X)


def test_an_infinity_is_found_at_its_place():
    X = [np.zeros((4, 3)), np.zeros((5, 3), dtype=np.float32), np.zeros((2, 3))]
    X[1][3, 2] = -np.inf
    with pytest.raises(ValueError, match=r"X\[1\] contains infinity .* at frame 3, feature 2"):
        check_sequences(X)


def test_finite_values_whose_sum_overflows_are_fine():
    X = check_sequences([np.full((4, 3), 3e38, dtype=np.float32)])
    assert X.values.dtype == np.float32


@pytest.mark.parametrize("container", [list, tuple, pd.Series])
@pytest.mark.parametrize(("item", "kind"), [(None, "NoneType"), ({"a": 1}, "dict")])
@pytest.mark.parametrize("place", [0, 1])
def test_items_that_are_no_arrays_are_named_wherever_they_are(container, item, kind, place):
    items = [GOOD, GOOD]
    items[place] = item
    with pytest.raises(TypeError, match=rf"X\[{place}\] is a {kind}, expected an array"):
        check_sequences(container(items))


def test_tensors_of_any_class_are_read():
    class Marked(torch.Tensor):
        """As torchvision has."""

    plain = torch.arange(6.0).reshape(2, 3)
    for tensor in (plain.as_subclass(Marked), plain.clone().requires_grad_()):
        for X in ([tensor], [list(tensor)]):
            np.testing.assert_array_equal(check_sequences(X)[0], plain)
    np.testing.assert_array_equal(check_sequences([plain.bfloat16().as_subclass(Marked)])[0], plain)
