"""The engine of the CPU by itself; test_loop.py tests training with it."""

from dataclasses import replace

import numpy as np
import pytest
from test_loop import PUBLISHED

from skdejavid import TSEArray, dtw_distances
from skdejavid.backends.cpu import CpuBackend
from skdejavid.backends.state import MOMENTS, PARAMETERS, InitialParameters, TrainingData


def engine(seed=0):
    rng = np.random.default_rng(seed)
    X = TSEArray([rng.standard_normal((n, 3)) for n in range(1, 13)])
    data = TrainingData(X, np.arange(12) % 3, rng.uniform(0.5, 2, size=12))
    initial = InitialParameters(*rng.standard_normal((2, 3, 4, 3)), np.ones(3))
    backend, settings = CpuBackend(), replace(PUBLISHED, batch_size=5)
    return backend.engine(data, initial, settings), data


def step(cpu, indices):
    (batch,) = cpu.iter_batches([indices])
    metrics = cpu.evaluate(batch, PUBLISHED.loss.with_scale(1.0), None)
    cpu.move_centroids(0.1)
    cpu.move_weights(0.2)
    return metrics


def test_a_loaded_state_continues_with_the_same_bits():
    cpu, _ = engine()
    step(cpu, np.arange(5))
    state = {name: array.copy() for name, array in cpu.state_dict().items()}
    assert tuple(state) == PARAMETERS + MOMENTS
    expected = step(cpu, np.arange(5, 12))
    other, _ = engine()
    other.load_state_dict(state)
    assert step(other, np.arange(5, 12)) == expected
    for name, array in cpu.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)


def test_metrics_are_sums_by_weight_of_a_batch_in_any_order():
    cpu, data = engine()
    indices = np.array([7, 0, 3])
    metrics = step(cpu, indices)
    fresh, _ = engine()
    distances = dtw_distances(data.sequences[indices], *fresh.parameters(), diagonal=False)
    values, _ = PUBLISHED.loss.evaluate(distances, data.targets[indices])
    np.testing.assert_allclose(metrics, [data.sample_weight[indices] @ value for value in values])
    assert all(type(metric) is float for metric in metrics)


def test_frozen_parameters_choose_the_paths_and_the_current_ones_measure():
    cpu, _ = engine()
    frozen = cpu.snapshot()
    (batch,) = cpu.iter_batches([np.arange(12)])
    loss = PUBLISHED.loss
    assert cpu.evaluate(batch, loss, frozen) == pytest.approx(cpu.evaluate(batch, loss, None))
    cpu.parameters()[0][:] *= -1.0
    assert cpu.evaluate(batch, loss, frozen) != pytest.approx(cpu.evaluate(batch, loss, None))


def test_numbers_that_are_not_finite_are_found():
    cpu, _ = engine()
    assert cpu.is_finite(1.0, wait=False)
    assert not cpu.is_finite(float("nan"), wait=False)
    assert cpu.parameters_are_finite()
    cpu.parameters()[1][0, 0, 0] = np.inf
    assert not cpu.parameters_are_finite()
    assert cpu.to_float(np.float64(2.5)) == 2.5
