import numpy as np
import pytest

from skdejavid.files.random_state import (
    GENERATOR_SIZE,
    generator_from_state,
    generator_state,
    restore_generator,
)

# NumPy crashes with large ones.
WRONG_POSITIONS = (625, -1, 10**8, -(10**8), 10**9, 10**14, 2**70, 1.0, True, "x", None, {})


@pytest.mark.parametrize("n_drawn", [0, 1, 700])
@pytest.mark.parametrize("has_gauss", [False, True])
def test_a_generator_goes_on_where_it_was(n_drawn, has_gauss):
    generator = np.random.RandomState(3)
    generator.randint(0, 9, n_drawn)
    if has_gauss:
        generator.standard_normal()  # a second one is kept in reserve
    state = generator_state(generator)
    assert state["key"].shape == (GENERATOR_SIZE,)
    assert all(type(state[name]) in (int, float) for name in state if name != "key")
    again = generator_from_state(state)
    np.testing.assert_array_equal(again.standard_normal(5), generator.standard_normal(5))
    np.testing.assert_array_equal(again.permutation(50), generator.permutation(50))


@pytest.mark.fault(83)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({"position": position}, "position of the generator") for position in WRONG_POSITIONS),
        *(({"has_gauss": value}, "has_gauss of the generator") for value in (5, -1, True, "x", {})),
        *(({"gauss": value}, "gauss of the gen") for value in (1, "x", None, np.inf, np.nan)),
        ({"key": [0] * GENERATOR_SIZE}, "key of the generator must be ndarray, got list"),
        ({"key": np.zeros(GENERATOR_SIZE, np.uint32)}, "contains only zeros"),
        ({"key": np.ones(3, np.uint32)}, r"must be 624 numbers uint32, got shape \(3,\)"),
        ({"key": np.ones(GENERATOR_SIZE)}, "and float64"),
    ],
)
def test_a_state_that_no_generator_can_have_is_refused(change, message):
    state = generator_state(np.random.RandomState(3))
    with pytest.raises(ValueError, match=message):
        generator_from_state(state | change)
    del state[next(iter(change))]
    with pytest.raises(ValueError, match="got nothing"):
        generator_from_state(state)


def test_a_generator_continues_from_a_state_that_is_restored():
    one, other = np.random.RandomState(1), np.random.RandomState(2)
    one.standard_normal(3)
    restore_generator(other, generator_state(one))
    np.testing.assert_array_equal(other.standard_normal(9), one.standard_normal(9))
