import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import reference

from skdejavid import TSEArray, dtw_distances
from skdejavid.backends.state import InitialParameters, Snapshot, TrainingData, TrainingSettings
from skdejavid.training.loop import TimeLimit, Training
from skdejavid.training.loss import SoftMinCrossEntropy

BY_SAMPLE = SoftMinCrossEntropy("sample")
GLOBAL = SoftMinCrossEntropy("global")
PUBLISHED = TrainingSettings(
    loss=BY_SAMPLE,
    learn_weights=True,
    learn_centroids=True,
    diagonal=False,
    path_refresh="epoch",
    learning_rate=0.03,
    centroid_learning_rate=0.01,
    batch_size=5,
    n_epochs=3,
    n_threads=1,
)

# The weights are stored: their logarithms, of about 1, are rounded twice.
EXP_AND_LOG = 2 * np.finfo(float).eps


@pytest.fixture(params=["cpu", "emulated CUDA"])
def engine_device(request):
    """Device of the engine: tests run with both."""
    if request.param == "cpu":
        return "cpu"
    request.getfixturevalue("emulated_cuda")
    return "cuda:0"


@pytest.fixture
def problem(ragged, rng):
    """Data of three classes, initial centroids and log-weights."""
    X, y = ragged
    data = TrainingData(TSEArray(X), y, np.ones(len(y)))
    return data, rng.standard_normal((3, 4, 3)), 0.3 * rng.standard_normal((3, 4, 3))


@pytest.fixture
def run(engine_device):
    """Function that trains on the device, and returns the result."""
    return partial(run_on, engine_device)


@pytest.fixture
def start(engine_device):
    """Function that returns a training on the device, with held-out data, before epoch 1."""
    return partial(start_on, engine_device)


def run_on(device, problem, feature_scale=None, seed=0, held_out=None, **changes):
    data, centroids, log_weights = problem
    if feature_scale is None:
        feature_scale = np.ones(3)
    initial = InitialParameters(centroids.copy(), log_weights.copy(), feature_scale)
    settings = replace(PUBLISHED, device=device, **changes)
    training = Training(data, initial, settings, np.random.RandomState(seed), held_out)
    return training.learn()


class Following:
    """Observer that records its calls, and may stop training after some epochs."""

    def __init__(self, last=None):
        self.last, self.n_begun, self.records, self.results = last, 0, [], []

    def on_epoch_begin(self):
        assert self.n_begun == len(self.records)
        self.n_begun += 1

    def on_epoch_end(self, record, training):
        self.records.append(record)
        self.results.append(training.result())
        return "enough" if self.n_begun == self.last else None


def batches_of(seed, n_samples=12, batch_size=5, n_epochs=3):
    """Return the batches of a training with this seed."""
    rng = np.random.RandomState(seed)
    orders = [rng.permutation(n_samples) for _ in range(n_epochs)]
    cuts = range(batch_size, n_samples, batch_size)
    return [np.split(order, cuts) for order in orders]


def test_training_is_the_published_algorithm(problem, run):
    data, centroids, log_weights = problem
    result = run(problem)
    expected_centroids, expected_log_weights = reference.train(
        list(data.sequences), data.targets, centroids, log_weights, batches_of(0), 0.03, 0.01
    )
    np.testing.assert_allclose(result.centroids, expected_centroids, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.log_weights, expected_log_weights, rtol=1e-9, atol=1e-9)


def test_frozen_parameters_choose_the_paths_of_an_epoch(problem, run):
    """If paths are chosen again for every batch, the result differs."""
    large_steps = {"centroid_learning_rate": 0.3}
    by_epoch = run(problem, **large_steps)
    by_batch = run(problem, path_refresh="batch", **large_steps)
    assert not np.allclose(by_epoch.centroids, by_batch.centroids, rtol=1e-6)
    one_batch = {"batch_size": 12, **large_steps}
    np.testing.assert_array_equal(
        run(problem, **one_batch).centroids,
        run(problem, path_refresh="batch", **one_batch).centroids,
    )


def test_diagonal_moves_reach_the_paths(problem, run):
    assert not np.allclose(run(problem).centroids, run(problem, diagonal=True).centroids)


def test_what_is_frozen_does_not_move(problem, run):
    _, centroids, log_weights = problem
    frozen_weights = run(problem, learn_weights=False)
    np.testing.assert_allclose(frozen_weights.log_weights, log_weights, rtol=0, atol=EXP_AND_LOG)
    assert np.abs(frozen_weights.centroids - centroids).min() > 0
    frozen_centroids = run(problem, learn_centroids=False)
    np.testing.assert_array_equal(frozen_centroids.centroids, centroids)
    assert np.abs(frozen_centroids.log_weights - log_weights).min() > 0


def test_no_epoch_returns_what_it_was_given(problem, run):
    data, centroids, log_weights = problem
    result = run(problem, n_epochs=0, loss=GLOBAL)
    np.testing.assert_array_equal(result.centroids, centroids)
    np.testing.assert_allclose(result.log_weights, log_weights, rtol=0, atol=EXP_AND_LOG)
    assert [len(values) for values in result.history.values()] == [0, 0, 0]
    distances = dtw_distances(data.sequences, centroids, np.exp(log_weights), diagonal=False)
    assert result.distance_scale == pytest.approx(distances.std(axis=1, ddof=1).mean())


def test_the_global_scale_is_measured_before_training_and_kept(problem, run):
    one, three = (run(problem, loss=GLOBAL, n_epochs=n) for n in (1, 3))
    assert one.distance_scale == three.distance_scale
    assert run(problem).distance_scale == 1.0


def test_the_temperature_is_in_units_of_the_measured_scale(problem, run):
    warm, cold = (
        run(problem, loss=replace(GLOBAL, temperature=temperature), n_epochs=0)
        for temperature in (1.0, 0.25)
    )
    assert cold.distance_scale == warm.distance_scale / 4
    published = [
        run(problem, loss=replace(BY_SAMPLE, temperature=temperature)).centroids
        for temperature in (1.0, 0.25)
    ]
    np.testing.assert_array_equal(*published)


def test_feature_scale_is_training_on_scaled_data(problem, run):
    """Training in other units is equivalent, without a copy of the data."""
    data, centroids, log_weights = problem
    scale = np.array([0.01, 1.0, 300.0])
    sequences = TSEArray([x * scale for x in data.sequences])
    scaled_data = TrainingData(sequences, data.targets, data.sample_weight)
    plain = run(problem)
    scaled = run((scaled_data, centroids * scale, log_weights), feature_scale=scale)
    np.testing.assert_allclose(scaled.centroids / scale, plain.centroids, rtol=1e-7)
    np.testing.assert_allclose(scaled.log_weights + np.log(scale), plain.log_weights, atol=1e-7)


def test_integer_weights_are_repetitions(problem, run):
    data, centroids, log_weights = problem
    weight = np.array([1, 2, 3] * 4)
    weighted = TrainingData(data.sequences, data.targets, weight.astype(float))
    order = np.repeat(np.arange(12), weight)[::-1]
    repeated = TrainingData(data.sequences[order], data.targets[order], np.ones(len(order)))
    results = [
        run((variant, centroids, log_weights), batch_size=99) for variant in (weighted, repeated)
    ]
    np.testing.assert_allclose(results[0].centroids, results[1].centroids, rtol=1e-9)
    np.testing.assert_allclose(results[0].history["loss"], results[1].history["loss"])
    np.testing.assert_allclose(results[0].history["accuracy"], results[1].history["accuracy"])


def test_the_scale_of_all_sample_weights_does_not_matter(problem, run):
    data, centroids, log_weights = problem
    heavy = TrainingData(data.sequences, data.targets, np.full(12, 1000.0))
    np.testing.assert_allclose(
        run((heavy, centroids, log_weights)).centroids, run(problem).centroids, rtol=1e-9
    )


def test_history_tells_what_happened(problem, engine_device):
    data, centroids, log_weights = problem
    following = Following()
    result = Training(
        data,
        InitialParameters(centroids.copy(), log_weights.copy(), np.ones(3)),
        replace(PUBLISHED, device=engine_device, batch_size=12),
        np.random.RandomState(0),
    ).learn([following])
    records = following.records
    distances = dtw_distances(data.sequences, centroids, np.exp(log_weights), diagonal=False)
    losses = [reference.loss(d, label) for d, label in zip(distances, data.targets, strict=True)]
    assert result.history["loss"][0] == pytest.approx(np.mean(losses))
    accuracy = np.mean(distances.argmin(axis=1) == data.targets)
    assert result.history["accuracy"][0] == pytest.approx(accuracy)
    np.testing.assert_allclose(result.history["learning_rate"], 0.03 * np.array([1, 0.75, 0.25]))
    assert [record["loss"] for record in records] == result.history["loss"].tolist()


@pytest.mark.parametrize("with_held_out", [False, True])
def test_an_observer_sees_the_result_of_a_training_that_ends_there(
    with_held_out, problem, engine_device
):
    """An observer that returns a reason ends the training."""
    data, centroids, log_weights = problem

    def run_until(last):
        initial = InitialParameters(centroids.copy(), log_weights.copy(), np.ones(3))
        settings = replace(
            PUBLISHED, device=engine_device, n_epochs=4, centroid_learning_rate=2.0, patience=9
        )
        held_out = data.part(np.arange(6)) if with_held_out else None
        following = Following(last)
        rng = np.random.RandomState(0)
        result = Training(data, initial, settings, rng, held_out).learn([following])
        assert result.stopped == ("enough" if last is not None else None)
        return result, following

    _, undisturbed = run_until(None)
    whole = undisturbed.results
    if with_held_out:  # the best epoch is not always the last
        assert [result.best_epoch for result in whole] == [1, 2, 2, 2]
    for n_epochs, expected in enumerate(whole, start=1):
        result, following = run_until(n_epochs)
        n_seen = len(following.results)
        assert following.n_begun == n_seen == len(result.history["loss"]) == n_epochs
        for ended in (result, following.results[-1]):
            np.testing.assert_array_equal(ended.centroids, expected.centroids)
            np.testing.assert_array_equal(ended.log_weights, expected.log_weights)
            assert ended.best_epoch == expected.best_epoch
            assert {name: values.tolist() for name, values in ended.history.items()} == {
                name: values.tolist() for name, values in expected.history.items()
            }


def test_a_scale_that_is_given_is_not_measured(problem, run):
    measured = run(problem, loss=GLOBAL)
    given = run(problem, loss=GLOBAL.with_scale(measured.distance_scale))
    np.testing.assert_array_equal(given.centroids, measured.centroids)
    other = run(problem, loss=GLOBAL.with_scale(2 * measured.distance_scale))
    assert other.distance_scale == 2 * measured.distance_scale
    assert not np.array_equal(other.centroids, measured.centroids)
    assert run(problem, loss=BY_SAMPLE.with_scale(3.0)).distance_scale == 1.0


@pytest.mark.slow
def test_threads_change_no_bit(rng, run):
    # About 10 million weighted differences per batch: enough work for more than one thread.
    X = [rng.standard_normal((n_frames, 4000)) for n_frames in range(1, 13)]
    data = TrainingData(TSEArray(X), np.arange(12) % 3, np.ones(12))
    large = data, rng.standard_normal((3, 20, 4000)), np.zeros((3, 20, 4000))
    one, three = (run(large, np.ones(4000), n_threads=n, batch_size=12, n_epochs=2) for n in (1, 3))
    np.testing.assert_array_equal(one.centroids, three.centroids)
    np.testing.assert_array_equal(one.log_weights, three.log_weights)


def test_the_seed_decides(problem, run):
    one = run(problem)
    np.testing.assert_array_equal(one.centroids, run(problem).centroids)
    assert not np.array_equal(one.centroids, run(problem, seed=1).centroids)


def test_float32_data_trains_in_float32(problem, run):
    data, centroids, log_weights = problem
    narrow = TrainingData(data.sequences.astype(np.float32), data.targets, data.sample_weight)
    result = run(
        (narrow, centroids.astype(np.float32), log_weights.astype(np.float32)),
        feature_scale=np.ones(3, dtype=np.float32),
    )
    assert result.centroids.dtype == result.log_weights.dtype == np.float32
    np.testing.assert_allclose(result.centroids, run(problem).centroids, atol=1e-4)


def test_read_only_data_is_enough(problem, run):
    writable = run(problem)
    problem[0].sequences.frames.flags.writeable = False
    np.testing.assert_array_equal(run(problem).centroids, writable.centroids)


@pytest.mark.fault(38)
def test_a_loss_that_overflows_at_once_stops_with_advice(problem, run):
    with pytest.raises(RuntimeError, match="overflow in epoch 1: lower learning_rate"):
        run(problem, learning_rate=1e6)


@pytest.mark.fault(38)
def test_a_loss_that_overflows_later_keeps_the_last_good_parameters(problem, run):
    data, _, _ = problem
    result = run(problem, learning_rate=200.0, batch_size=12, n_epochs=50)
    assert result.stopped == "diverged"
    n_epochs = len(result.history["loss"])
    assert 1 <= n_epochs < 50
    assert np.isfinite(result.history["loss"]).all()
    distances = dtw_distances(
        data.sequences, result.centroids, np.exp(result.log_weights), diagonal=False
    )
    assert np.isfinite(distances).all()


@pytest.mark.fault(36)
def test_duplicates_in_all_classes_are_no_scale_to_divide_by(rng, run):
    """The distances differ by rounding errors only, which must not be scaled up and learned."""
    x = rng.standard_normal((5, 3))
    data = TrainingData(TSEArray([x] * 4), np.array([0, 1, 0, 1]), np.ones(4))
    centroids = np.stack([x, x * (1 + 1e-15)])
    result = run((data, centroids + 1, np.zeros((2, 5, 3))), loss=GLOBAL, n_epochs=1)
    assert result.distance_scale == 1.0


def test_parameters_that_are_not_finite_are_no_result(problem, run):
    """The last step can cause an overflow, and no loss is computed after it."""
    with pytest.raises(RuntimeError, match="parameters overflow in epoch 1: lower learning_rate"):
        run(problem, learning_rate=1e4, batch_size=12, n_epochs=1)


def test_the_learning_rate_is_reported_even_if_no_weight_is_learned(problem, run):
    rates = run(problem, learn_weights=False).history["learning_rate"]
    np.testing.assert_allclose(rates, 0.03 * np.array([1, 0.75, 0.25]))


def test_overflow_while_the_scale_is_measured_is_no_warning(problem, start):
    class Overflowing(SoftMinCrossEntropy):
        def calibrate(self, mean):
            assert np.isinf(np.float64(1e308) * 10)
            return self.with_scale(1.0)

    with np.errstate(all="raise"):
        start(problem, loss=Overflowing("global")).calibrate()


LONG = {"n_epochs": 40, "learning_rate": 0.3, "centroid_learning_rate": 0.3}


def losses_of(result, data):
    """Compute the loss of each sequence by plain formulas."""
    parameters = zip(result.centroids, np.exp(result.log_weights), strict=True)
    distances = np.array(
        [[reference.dtw_distance(x, c, u) for x in data.sequences] for c, u in parameters]
    ).T
    return [reference.loss(row, label) for row, label in zip(distances, data.targets, strict=True)]


def test_the_parameters_that_are_best_for_held_out_data_are_kept(problem, rng, run):
    data, *_ = problem
    held_out = TrainingData(data.sequences, (data.targets + 1) % 3, rng.random(12) + 0.5)
    result = run(problem, held_out=held_out, patience=40, **LONG)
    losses = result.history["validation_loss"]
    assert len(losses) == 40
    assert result.best_epoch == losses.argmin() + 1 < 40
    expected = np.average(losses_of(result, held_out), weights=held_out.sample_weight)
    np.testing.assert_allclose(losses.min(), expected, rtol=1e-9)
    stopped_then = run(problem, **LONG | {"n_epochs": 40}, seed=0)
    assert not np.allclose(stopped_then.centroids, result.centroids)


def test_learning_ends_when_held_out_data_gain_no_more(problem, run):
    data, *_ = problem
    wrong = TrainingData(data.sequences, (data.targets + 1) % 3, np.ones(12))
    whole = run(problem, held_out=wrong, patience=40, **LONG)
    short = run(problem, held_out=wrong, patience=4, **LONG)
    losses = whole.history["validation_loss"]
    since_best = [k - losses[: k + 1].argmin() for k in range(40)]
    n_epochs = since_best.index(4) + 1
    assert len(short.history["validation_loss"]) == n_epochs < 40
    np.testing.assert_array_equal(short.history["validation_loss"], losses[:n_epochs])
    assert short.best_epoch == n_epochs - 4


def test_held_out_data_teach_nothing(problem, run):
    """If the loss is lowest at the end, the result is that of training without held-out data."""
    data, *_ = problem
    with_held_out = run(problem, held_out=data, patience=3)
    assert with_held_out.best_epoch == 3
    np.testing.assert_array_equal(with_held_out.centroids, run(problem).centroids)


def start_on(device, problem, *, holds_out=True, **changes):
    data, centroids, log_weights = problem
    initial = InitialParameters(centroids.copy(), log_weights.copy(), np.ones(3))
    settings = replace(PUBLISHED, device=device, **changes)
    held_out = data.part(np.arange(6)) if holds_out else None
    return Training(data, initial, settings, np.random.RandomState(0), held_out)


def test_a_result_says_why_training_stopped(problem, start):
    assert start(problem, patience=9).learn().stopped is None
    assert start(problem, patience=1, **LONG).learn().stopped == "no_improvement"
    following = Following()
    result = start(problem, patience=9).learn([TimeLimit(0), following])
    assert (result.stopped, len(following.results)) == ("max_time", 1)


def test_a_time_limit_that_ends_with_the_last_epoch_is_no_reason(problem, start):
    assert start(problem, n_epochs=1, patience=9).learn([TimeLimit(0)]).stopped is None


@pytest.mark.parametrize("n_epochs", [1, 2, 4])
@pytest.mark.parametrize("loss", [BY_SAMPLE, GLOBAL], ids=["sample", "global"])
def test_a_training_resumes_from_a_state_to_the_same_bits(problem, n_epochs, loss, start):
    settings = {"loss": loss, "n_epochs": 4, "centroid_learning_rate": 2.0, "patience": 9}
    undisturbed = start(problem, **settings).learn()
    states = []

    class Keeping(Following):
        def on_epoch_end(self, record, training):
            states.append(copy.deepcopy(training.state()))
            return super().on_epoch_end(record, training)

    start(problem, **settings).learn([Keeping()])
    resumed = start((problem[0], *np.zeros((2, 3, 4, 3))), **settings)
    resumed.resume(states[n_epochs - 1])
    assert resumed.n_epochs_done == n_epochs
    result = resumed.learn()
    np.testing.assert_array_equal(result.centroids, undisturbed.centroids)
    np.testing.assert_array_equal(result.log_weights, undisturbed.log_weights)
    assert result.best_epoch == undisturbed.best_epoch
    assert result.distance_scale == undisturbed.distance_scale
    for name, values in undisturbed.history.items():
        np.testing.assert_array_equal(result.history[name], values)


class AbsoluteError:
    """Loss of a regression whose prediction is the distance to the first centroid."""

    metrics = ("error", "is_small")
    scale = 1.0

    def calibrate(self, mean):
        return self

    def evaluate(self, distances, targets):
        errors = distances[:, 0] - targets
        gradients = 0.0 * distances
        gradients[:, 0] = 2 * (errors > 0) - 1
        return (abs(errors), (abs(errors) < 1.0) + 0.0 * errors), gradients


def test_another_loss_learns_and_names_its_metrics(problem, rng, run):
    """Targets are numbers; only the loss depends on that."""
    data, centroids, log_weights = problem
    data = replace(data, targets=np.linspace(10, 20, 12))
    result = run(
        (data, centroids, log_weights), loss=AbsoluteError(), held_out=data, patience=40, **LONG
    )
    assert list(result.history) == [
        "error", "is_small", "learning_rate", "validation_error", "validation_is_small",
    ]  # fmt: skip
    errors = result.history["error"]
    assert result.history["validation_error"].min() < 0.7 * errors[0]
    assert result.best_epoch == result.history["validation_error"].argmin() + 1


def interrupt(monkeypatch, owner, name, number, when):
    """Make a call of a function of a class raise KeyboardInterrupt before, after or inside."""
    function, n_calls = getattr(owner, name), 0

    def call(*arguments, **options):
        nonlocal n_calls
        n_calls += 1
        if n_calls != number:
            return function(*arguments, **options)
        if when == "inside":  # of the copy of two arrays, the first is complete
            snapshot, parameters = arguments
            function(snapshot, (parameters[0], snapshot.parameters[1]))
        if when == "after":
            function(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, call)


@pytest.mark.fault(104)
@pytest.mark.parametrize("holds_out", [True, False])
@pytest.mark.parametrize("when", ["before", "inside", "after"])
@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Training, "train_epoch"),
        (Training, "_end_epoch"),
        (Training, "_validate"),
        (Snapshot, "take"),
        (Snapshot, "fill"),
        ("engine", "evaluate"),
        ("engine", "move_centroids"),
        ("engine", "move_weights"),
    ],
    ids=str,
)
def test_an_interrupted_training_has_the_result_of_whole_epochs(
    owner, name, number, when, holds_out, start, problem, monkeypatch
):
    """Wherever the interrupt comes: as if training had stopped after the last whole epoch."""
    if when == "inside" and name != "fill":
        when, number = "after", 3
    settings = {"n_epochs": 4, "patience": 9, "centroid_learning_rate": 0.3}
    settings["holds_out"] = holds_out
    following = Following()
    start(problem, **settings).learn([following])
    training = start(problem, **settings)
    with monkeypatch.context() as patch:
        owner = type(training._engine) if owner == "engine" else owner
        interrupt(patch, owner, name, number, when)
        try:
            result = training.learn()
        except KeyboardInterrupt:
            assert training.n_epochs_done == 0
            return
    if name == "_validate" and not holds_out:
        return  # never called
    assert isinstance(result.interrupt, KeyboardInterrupt)
    n_epochs = len(result.history["loss"])
    assert n_epochs == training.n_epochs_done > 0
    expected = following.results[n_epochs - 1]
    np.testing.assert_array_equal(result.centroids, expected.centroids)
    np.testing.assert_array_equal(result.log_weights, expected.log_weights)
    assert result.best_epoch == expected.best_epoch
