"""The state of training by itself; test_loop.py tests training with it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import TSEArray
from skdejavid.backends.state import InitialParameters, Snapshot, TrainingData, split


@given(n=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_batches_are_full_but_for_the_last(n, batch_size):
    batches = split(np.arange(n), batch_size)
    assert np.concatenate(batches).tolist() == list(range(n))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_snapshot_is_a_copy_that_goes_back_in_place(kind):
    parameters = kind([1.0, 2.0]), kind([3.0])
    snapshot = Snapshot(parameters)
    parameters[0][0] = 9.0
    assert snapshot.parameters[0].tolist() == [1.0, 2.0]
    snapshot.restore()
    assert parameters[0].tolist() == [1.0, 2.0]
    parameters[1][0] = 7.0
    snapshot.take()
    parameters[1][0] = 0.0
    snapshot.restore()
    assert parameters[1].tolist() == [7.0]
    snapshot.fill((kind([3.0, 4.0]), kind([5.0])))
    assert [part.tolist() for part in parameters] == [[1.0, 2.0], [7.0]]
    snapshot.restore()
    assert [part.tolist() for part in parameters] == [[3.0, 4.0], [5.0]]


def test_coefficients_weigh_samples_by_their_share_of_the_mean_weight():
    data = TrainingData(TSEArray(np.zeros((4, 1, 1))), np.arange(4), np.array([1.0, 2.0, 3.0, 2.0]))
    assert data.total_weight == 8.0
    np.testing.assert_array_equal(data.coefficients(np.array([2, 0])), [0.75, 0.25])
    part = data.part(np.array([1, 2]))
    assert part.total_weight == 5.0
    assert part.targets.tolist() == [1, 2]


def test_weights_start_as_exponentials_over_the_scale_of_their_feature():
    log_weights = np.log([[[2.0, 6.0]]])
    initial = InitialParameters(np.zeros((1, 1, 2)), log_weights, np.array([1.0, 3.0]))
    np.testing.assert_allclose(initial.weights, [[[2.0, 2.0]]])
    assert initial.weights is log_weights
    assert initial.parameters[0] is initial.centroids
