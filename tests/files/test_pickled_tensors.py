"""Pickles of torch's files are checked before torch loads them."""

import collections
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_foreign_arrays import BASE, pickled_tensor, saved, with_pickle
from traced_memory import traced_memory

from skdejavid.files.foreign_arrays import read_array
from skdejavid.files.pickled_tensors import check_pickle

DICT = b"ccollections\nOrderedDict\n"


def check(content):
    check_pickle(io.BytesIO(content), len(content))


ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)


@given(
    things=st.recursive(
        ATOMS,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
        ),
        max_leaves=8,
    ),
    protocol=st.integers(2, 3),
)
def test_tensors_among_plain_things_are_accepted(things, protocol, tmp_path_factory):
    content = {"x": BASE, "y": torch.nn.Parameter(BASE), "things": things, "dtype": BASE.dtype}
    content = collections.OrderedDict(content)
    path = saved([content, BASE], tmp_path_factory.mktemp("any"), pickle_protocol=protocol)
    np.testing.assert_array_equal(read_array(path, None), BASE.numpy())


@pytest.mark.fault(79)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.", "refers to builtins"),
        (b"\x80\x02ctorch\nSize\n(K\x01t\x85R.", "refers to torch.Size"),
        (DICT + b"]\x85R.", "uses collections.OrderedDict in a way"),
        (DICT + b"q\x00)R0h\x00]\x85R.", "uses collections.OrderedDict in a way"),
        (DICT + b"q\x00q\x01)R0h\x01]\x85R.", "uses collections.OrderedDict in a way"),
        (b"]q\x02" + DICT + b"h\x02\x85R.", "uses collections.OrderedDict in a way"),
        (DICT + b")R}b.", "contains the instruction BUILD"),
        (DICT + b"2.", "contains the instruction DUP"),
        (DICT + b")\x81.", "contains the instruction NEWOBJ"),
        (b"\x80\x05\x8e" + b"\xff" * 8, "pickle_protocol=5"),
        (b"\x8e" + b"\xff" * 8, "malformed"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "malformed"),
        (b")" + b"\x85" * 20_001 + b".", "contains more than 20000 tuples"),
        (b"N." * 2**19 + b".", "has 1048577 bytes"),
        (b"", "malformed"),
    ],
)
def test_what_would_grow_is_refused_before_it_is_built(content, message):
    with traced_memory() as traced, pytest.raises(ValueError, match=message):
        check(content)
    assert traced.peak < 2**22


@pytest.mark.fault(79)
def test_copies_of_one_list_are_refused(tmp_path):
    """Some kilobytes describe hundreds of copies, each of hundreds of pairs."""
    pairs = b"(" + b"".join(b"M" + i.to_bytes(2, "little") + b"N\x86" for i in range(600)) + b"l"
    copies = DICT + b"q\x00)R0" + pairs + b"q\x010(" + b"h\x00h\x01\x85R" * 600 + b"l."
    with pytest.raises(ValueError, match=r"hostile\.pt cannot be read: .* in a way that torch"):
        read_array(with_pickle(b"\x80\x02" + copies, tmp_path), None)


@pytest.mark.fault(79, 80)
def test_a_key_too_deep_to_be_hashed_is_refused(tmp_path):
    deep = b"\x80\x02})" + b"\x85" * 900_000 + b"Ns."
    with pytest.raises(ValueError, match=r"hostile\.pt cannot be read: .* more than 20000 tuples"):
        read_array(with_pickle(deep, tmp_path), None)


@pytest.mark.fault(79)
def test_thousands_of_tensors_of_one_storage_take_little_memory(tmp_path):
    tensor = pickled_tensor()[2:-1]
    path = with_pickle(b"\x80\x02(" + tensor * 5000 + b"l.", tmp_path)
    with (
        traced_memory() as traced,
        pytest.raises(ValueError, match=r"more than 20000 tuples|has \d+ bytes, and at most"),
    ):
        read_array(path, None)
    assert traced.peak < 20 * path.stat().st_size


@given(content=st.binary(max_size=60))
def test_any_bytes_are_accepted_or_a_value_error(content):
    try:
        check(content)
    except ValueError:
        pass
    else:
        assert content.find(b".") >= 0


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_what_is_accepted_calls_nothing_that_copies(place, value):
    """One wrong byte in a pickle with several dicts never gives a dict an argument."""
    good = pickle.dumps([collections.OrderedDict(a=[1, (2, 3)]) for _ in range(3)], protocol=2)
    content = bytearray(good)
    content[int(place * len(content))] = value
    try:
        check(bytes(content))
    except ValueError:
        return

    class Recorder(pickle._Unpickler):
        def find_class(self, module, name):
            def call(*arguments):
                assert (module, name) != ("collections", "OrderedDict") or not arguments
                return {}

            return call

    try:
        Recorder(io.BytesIO(bytes(content))).load()
    except AssertionError:
        raise
    except Exception:
        pass
