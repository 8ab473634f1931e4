import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.sequences.layout import offsets_of, starts_of

LENGTHS = st.lists(st.integers(0, 2**33), max_size=9)


@given(LENGTHS)
def test_offsets_and_starts_delimit_consecutive_sequences(lengths):
    expected = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    for given_as in (lengths, np.array(lengths, dtype=np.int64)):
        assert offsets_of(given_as).tolist() == expected
        assert starts_of(given_as).tolist() == expected[:-1]
        assert offsets_of(given_as).dtype == starts_of(given_as).dtype == np.int64


def test_offsets_of_narrow_integers_do_not_wrap_around():
    lengths = np.full(3, 200, dtype=np.uint8)
    assert offsets_of(lengths).tolist() == [0, 200, 400, 600]
    assert starts_of(lengths).tolist() == [0, 200, 400]
