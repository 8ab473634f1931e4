import numpy as np
import pytest

from skdejavid.files.random_state import (
    GENERATOR_SIZE,
    generator_from_state,
    generator_state,
    restore_generator,
)


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


def test_a_generator_continues_from_a_state_that_is_restored():
    one, other = np.random.RandomState(1), np.random.RandomState(2)
    one.standard_normal(3)
    restore_generator(other, generator_state(one))
    np.testing.assert_array_equal(other.standard_normal(9), one.standard_normal(9))
