"""The CUDA engine: memory that runs out, half precision.

test_loop.py runs its tests with both engines.
"""

from dataclasses import replace

import numpy as np
import pytest
from test_loop import PUBLISHED

from skdejavid import TSEArray
from skdejavid.backends import cuda_engine
from skdejavid.backends.cpu import CpuBackend
from skdejavid.backends.cuda_engine import CudaEngine
from skdejavid.backends.cuda_frames import ResidentFrames, StreamedFrames
from skdejavid.backends.state import InitialParameters, TrainingData
from skdejavid.training.loop import Training

SETTINGS = replace(PUBLISHED, device="cuda:0", n_epochs=2)


def problem(dtype=np.float32):
    rng = np.random.default_rng(0)
    X = TSEArray([rng.standard_normal((n, 3)).astype(dtype) for n in range(1, 13)])
    data = TrainingData(X, np.arange(12) % 3, rng.uniform(0.5, 2, size=12))
    parameters = rng.standard_normal((2, 3, 4, 3)).astype(dtype) / 2
    return data, InitialParameters(*parameters, np.ones(3, dtype))


def train(data, initial, settings):
    return Training(data, initial, settings, np.random.RandomState(0)).learn()


def run(settings=SETTINGS, **changes):
    return train(*problem(), replace(settings, **changes))


def assert_close(actual, expected, tolerance=1e-5):
    for name in ("centroids", "log_weights"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=0, atol=tolerance
        )
    np.testing.assert_allclose(actual.history["loss"], expected.history["loss"], rtol=tolerance)


@pytest.mark.parametrize("path_refresh", ["batch", "epoch"])
def test_gradients_and_losses_are_those_of_the_host(emulated_cuda, path_refresh):
    data, initial = problem(np.float64)
    settings = replace(SETTINGS, path_refresh=path_refresh)
    device = CudaEngine(emulated_cuda, data, initial, settings)
    host = CpuBackend().engine(data, initial, replace(settings, device="cpu"))
    batch = np.array([3, 1, 7, 11, 0])
    (loaded,), (expected_batch,) = device.iter_batches([batch]), host.iter_batches([batch])
    frozen_there, frozen = device.snapshot(), host.snapshot()
    device._parameters[0].mul_(1.5)
    initial.centroids *= 1.5
    mine = device.evaluate(loaded, SETTINGS.loss, frozen_there)
    expected = host.evaluate(expected_batch, SETTINGS.loss, frozen)
    np.testing.assert_allclose([float(x) for x in mine], expected, rtol=1e-12)
    for gradient, wanted in zip(device._gradients, host._gradients, strict=True):
        np.testing.assert_allclose(gradient[..., :3], wanted, rtol=1e-10, atol=1e-12)


def test_streamed_sequences_give_the_same_bits_as_resident_ones(emulated_cuda, monkeypatch):
    data, initial = problem()
    engine = CudaEngine(emulated_cuda, data, initial, SETTINGS)
    assert isinstance(engine._frames[id(data.sequences)], ResidentFrames)
    resident = run()
    emulated_cuda.free = cuda_engine._KEPT_FREE_BYTES
    engine = CudaEngine(emulated_cuda, data, initial, SETTINGS)
    assert isinstance(engine._frames[id(data.sequences)], StreamedFrames)
    streamed = run()
    np.testing.assert_array_equal(streamed.centroids, resident.centroids)
    np.testing.assert_array_equal(streamed.log_weights, resident.log_weights)


def test_sequences_are_streamed_if_memory_is_gone_after_all(emulated_cuda):
    expected = run()
    n_bytes = 78 * 4 * 4  # of all frames
    emulated_cuda.refuses = lambda wanted: wanted == n_bytes
    np.testing.assert_array_equal(run().centroids, expected.centroids)
    assert emulated_cuda.n_times_emptied == 1


@pytest.mark.fault(44)
def test_a_batch_without_memory_is_split_and_nothing_else_changes(emulated_cuda):
    expected = run()
    pairs = []

    def refuses(n_bytes):
        pairs.append(n_bytes)
        return n_bytes == 5 * 3 * 8  # distances of a whole batch

    emulated_cuda.refuses = refuses
    split = run()
    assert 5 * 3 * 8 in pairs
    assert emulated_cuda.n_times_emptied >= 1
    assert_close(split, expected)


@pytest.mark.fault(44)
def test_without_memory_for_one_sample_the_error_names_bytes_and_parameters(emulated_cuda):
    data, initial = problem()
    engine = CudaEngine(emulated_cuda, data, initial, SETTINGS)
    (loaded,) = engine.iter_batches([np.arange(5)])
    emulated_cuda.refuses = lambda n_bytes: True
    emulated_cuda.free = 17
    with pytest.raises(MemoryError, match=r"bytes \(17 are free\): lower batch_size"):
        engine.evaluate(loaded, SETTINGS.loss, None)


@pytest.mark.parametrize("function", ["zeros_like", "to_padded_rows"])
def test_without_memory_for_parameters_the_error_names_bytes(emulated_cuda, monkeypatch, function):
    def refuse(*arguments):
        raise emulated_cuda.torch.cuda.OutOfMemoryError

    owner = emulated_cuda if function == "to_padded_rows" else emulated_cuda.torch
    monkeypatch.setattr(owner, function, refuse)
    data, initial = problem()
    with pytest.raises(MemoryError, match=r"cannot allocate 1152 bytes .*: lower n_timesteps"):
        CudaEngine(emulated_cuda, data, initial, SETTINGS)


def test_without_memory_for_a_snapshot_the_error_names_bytes(emulated_cuda, monkeypatch):
    engine = CudaEngine(emulated_cuda, *problem(), SETTINGS)

    def refuse(parameters):
        raise emulated_cuda.torch.cuda.OutOfMemoryError

    monkeypatch.setattr(cuda_engine, "Snapshot", refuse)
    with pytest.raises(MemoryError, match=r"cannot allocate 384 bytes .*: lower n_timesteps"):
        engine.snapshot()


def test_a_workspace_without_memory_splits_the_batch_too(emulated_cuda):
    """Even if not one sequence fits while the runs of the whole batch are allocated."""
    expected = run()
    allocated = []

    def refuses(n_bytes):
        if n_bytes % (3 * 4 * 8) == 0 and n_bytes <= 5 * 3 * 4 * 8:
            allocated.append(n_bytes)  # runs of one to five sequences
        is_workspace = n_bytes % 256 == 0
        return is_workspace and allocated[-1:] == [5 * 3 * 4 * 8]

    emulated_cuda.refuses = refuses
    assert_close(run(), expected)
    assert emulated_cuda.n_times_emptied >= 1


def test_half_precision_changes_what_sequences_are_and_nothing_else(emulated_cuda):
    data, initial = problem()
    half = run(half_storage=True)
    rounded = TSEArray([x.astype(np.float16) for x in data.sequences])
    same = train(replace(data, sequences=rounded), initial, SETTINGS)
    np.testing.assert_array_equal(half.centroids, same.centroids)
    assert np.abs(half.centroids - run().centroids).max() > 0


def test_the_device_is_waited_for_once_after_the_first_batch_and_at_the_end(
    emulated_cuda, monkeypatch
):
    import torch

    waits = []
    for name in ("item", "__float__", "cpu", "__bool__"):
        method = getattr(torch.Tensor, name)

        def note(self, *arguments, method=method, name=name):
            waits.append(name)
            return method(self, *arguments)

        monkeypatch.setattr(torch.Tensor, name, note)
    run(n_epochs=1, batch_size=6)
    few = len(waits)
    waits.clear()
    run(n_epochs=1, batch_size=2)
    assert few == len(waits)
    waits.clear()
    run(n_epochs=2, batch_size=2)
    assert 0 < len(waits) - few <= 4


def test_classifiers_refuse_what_half_precision_cannot_hold(emulated_cuda):
    from skdejavid import DejaVidClassifier

    rng = np.random.default_rng(0)
    X = [rng.standard_normal((4, 2)).astype(np.float32) for _ in range(6)]
    y = np.arange(6) % 2
    clf = DejaVidClassifier(2, n_epochs=1, device="cuda", half_storage=True, differences=None)
    assert clf.fit(X, y).centroids_.dtype == np.float32
    with pytest.raises(ValueError, match=r"half_storage=True requires float32 data.*X is float64"):
        clf.fit([x.astype(float) for x in X], y)
    X[3] = X[3] * 1e6
    clf.set_params(early_stopping=True, validation_fraction=0.34)
    with pytest.raises(ValueError, match=r"X\[\d\] contains values up to .* within \+-65504"):
        clf.fit(X, y)  # in the training part or the held-out part
    clf.set_params(early_stopping=False)
    with pytest.raises(ValueError, match=r"X\[3\] contains values up to .* within \+-65504"):
        clf.fit(X, y)
    clf.set_params(device="cpu").fit(X, y)  # half_storage is not used on the CPU


@pytest.mark.gpu
@pytest.mark.parametrize("path_refresh", ["batch", "epoch"])
def test_a_step_does_not_wait_for_the_card(cuda_card, path_refresh):
    import torch

    settings = replace(SETTINGS, path_refresh=path_refresh)
    engine = CudaEngine(cuda_card, *problem(), settings)
    frozen = engine.snapshot() if path_refresh == "epoch" else None
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in engine.iter_batches([np.arange(5), np.arange(5, 12)]):
            loss, _ = engine.evaluate(batch, SETTINGS.loss, frozen)
            assert engine.is_finite(loss, wait=False)
            engine.move_centroids(0.1)
            engine.move_weights(0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
