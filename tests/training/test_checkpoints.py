"""Interrupted training resumes and gives the result of uninterrupted training."""

import copy
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.utils import check_random_state
from test_atomic import die_while_replacing

from skdejavid import DejaVidClassifier, TSEArray
from skdejavid.datasets import make_order_sequences
from skdejavid.files.array_file import ArrayFile, write_array_file
from skdejavid.files.random_state import generator_state
from skdejavid.training import checkpoints
from skdejavid.training.checkpoints import Checkpoint, check_folder, content_hash
from skdejavid.training.loop import Training, TrainingState

PARAMETERS = {"n_epochs": 6, "n_timesteps": 4, "batch_size": 7, "random_state": 0}


@pytest.fixture(scope="module")
def orders():
    return make_order_sequences(30, random_state=0)


def state(value=1.0):
    generator = generator_state(np.random.RandomState(0))
    arrays = {"live.centroids": np.full((2, 3), value), "n_steps": np.array([1, 2])}
    history = {"loss": np.array([np.inf, 2.0])}
    return TrainingState(arrays, history, 0.5, 2, np.inf, generator, generator)


class StopError(Exception):
    """Error raised in the middle of a fit."""


def stop_after(monkeypatch, n_epochs):
    """Make the next fit fail after `n_epochs` epochs."""
    train_epoch = Training.train_epoch

    def stop(self, epoch):
        if epoch == n_epochs:
            raise StopError
        return train_epoch(self, epoch)

    monkeypatch.setattr(Training, "train_epoch", stop)


def assert_same_fit(actual, expected):
    for name in ("centroids_", "log_weights_", "classes_"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), strict=True)
    assert actual.history_.keys() == expected.history_.keys()
    for name, values in expected.history_.items():
        np.testing.assert_array_equal(actual.history_[name], values, strict=True)
    for name in ("distance_scale_", "best_iter_", "n_iter_"):
        assert getattr(actual, name) == getattr(expected, name)


# --- the file -----------------------------------------------------------------------------------


def test_a_state_is_read_as_it_was_written(tmp_path):
    checkpoint = Checkpoint(tmp_path / "new" / "folder", {"X": "1"})
    assert checkpoint.read() is None
    checkpoint.write(state())
    read = Checkpoint(tmp_path / "new" / "folder", {"X": "1"}).read()
    for mine, expected in ((read.arrays, state().arrays), (read.history, state().history)):
        assert mine.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(mine[name], array, strict=True)
    assert (read.distance_scale, read.best_epoch, read.best_loss) == (0.5, 2, np.inf)
    np.testing.assert_array_equal(read.generator["key"], state().generator["key"])


@pytest.mark.fault(62)
def test_another_run_is_refused_and_what_differs_is_named(tmp_path):
    """Names of files follow from the key, so one of them must have been renamed."""
    one = Checkpoint(tmp_path, {"X": "1", "y": "2", "batch_size": "7"})
    one.write(state())
    other = Checkpoint(tmp_path, {"X": "1", "y": "3", "n_epochs": "7"})
    assert other.read() is None
    one.path.rename(other.path)
    with pytest.raises(
        ValueError, match=r"another fit, whose batch_size, n_epochs, y differ.*Remov"
    ):
        other.read()


@pytest.mark.fault(83)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({name: {"position": position, "has_gauss": 0, "gauss": 0.0}}, "position of the gen")
            for name in ("generator", "initial_generator")
            for position in (10**9, -(10**8), 10**14, "x", None)
        ),
        ({"generator": {"position": 1, "has_gauss": 5, "gauss": 0.0}}, "has_gauss of the gener"),
        ({"generator": {"position": 1, "has_gauss": 1, "gauss": "x"}}, "gauss of the generator"),
        ({"generator": {}}, "position of the generator must be int, got nothing"),
        ({"generator": 5}, "is corrupt"),
        *(({"best_epoch": epoch}, "'best_epoch' must be null or") for epoch in (-7, 3, 1e5, True)),
        *(
            ({"distance_scale": scale}, "'distance_scale' must be positive")
            for scale in (-1, 0, 0.0, 10**400, "1", None, True)
        ),
        ({"history": ["loss", "other"]}, r"'history\.other' must have shape \(2\)"),
        ({"history": ["loss", "square"]}, r"'history\.square' must have shape"),
        ({"history": 3}, "is corrupt"),
        ({"history": ["a"]}, "'history' has no loss"),
    ],
)
def test_a_state_that_no_fit_can_have_is_refused(tmp_path, change, message):
    checkpoint = Checkpoint(tmp_path, {"X": "1"})
    written = state()
    written = replace(written, history=written.history | {"a": np.ones(2)}, best_epoch=2)
    arrays = {f"array.{name}": array for name, array in written.arrays.items()}
    arrays |= {f"history.{name}": array for name, array in written.history.items()}
    arrays |= {"history.other": np.ones(1), "history.square": np.ones((2, 2))}
    arrays |= dict.fromkeys(("generator", "initial_generator"), written.generator["key"])
    arrays["best_loss"] = np.array([1.0])
    generator = {name: part for name, part in written.generator.items() if name != "key"}
    description = {
        "format": "checkpoint",
        "format_version": 2,
        "version": "0",
        "key": {"X": "1"},
        "generator": generator,
        "initial_generator": generator,
        "arrays": list(written.arrays),
        "history": ["loss", "a"],
        "distance_scale": 0.5,
        "best_epoch": 2,
    }
    write_array_file(checkpoint.path, description, arrays)
    assert checkpoint.read().best_epoch == 2
    write_array_file(checkpoint.path, description | change, arrays)
    with pytest.raises(ValueError, match=rf"checkpoint-\w+\.safetensors.*{message}"):
        checkpoint.read()
    write_array_file(checkpoint.path, description, arrays | {"best_loss": np.array([np.nan])})
    with pytest.raises(ValueError, match="'best_loss' is NaN"):
        checkpoint.read()


@pytest.mark.fault(83)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": {}}, "its metrics are .*, expected .*'loss'"),
        ({"best_epoch": 0}, "its best epoch is 0, but the loss on held-out data is not measured"),
    ],
)
def test_a_state_of_another_kind_of_fit_is_refused(tmp_path, orders, monkeypatch, changes, message):
    clf = DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS).fit(*orders)
    read = checkpoints._read_state
    monkeypatch.setattr(checkpoints, "_read_state", lambda file: replace(read(file), **changes))
    with pytest.raises(ValueError, match=f"the checkpoint is damaged: {message}"):
        clf.fit(*orders)


@pytest.mark.fault(105)
def test_each_fit_has_a_file_whose_name_follows_from_its_key(tmp_path):
    keys = [{"X": "1", "y": "2"}, {"y": "2", "X": "1"}, {"X": "1", "y": "3"}, {"X": "12", "y": ""}]
    paths = [Checkpoint(tmp_path, key).path for key in keys]
    assert paths[0] == paths[1]
    assert len(set(paths)) == 3


@pytest.mark.fault(105)
def test_a_folder_keeps_the_files_written_last(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_MOST_FILES", 3)
    (tmp_path / "checkpoint-notes.safetensors").write_text("of the user")
    for number in range(6):
        checkpoint = Checkpoint(tmp_path, {"X": str(number)})
        checkpoint.write(state(number))
        os.utime(checkpoint.path, (1000 + number, 1000 + number))
        if number == 2:  # written again
            os.utime(Checkpoint(tmp_path, {"X": "1"}).path, (2000, 2000))
    kept = [n for n in range(6) if Checkpoint(tmp_path, {"X": str(n)}).read() is not None]
    assert kept == [1, 4, 5]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.fault(105)
def test_a_process_that_begins_the_same_fit_does_not_stop_another(tmp_path, monkeypatch):
    """It removes the temporary file that the other one is just writing."""
    first = Checkpoint(tmp_path, {"X": "1"})
    replace, n_calls = os.replace, 0

    def begin_and_replace(*arguments):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            Checkpoint(tmp_path, {"X": "1"})
        replace(*arguments)

    monkeypatch.setattr("os.replace", begin_and_replace)
    first.write(state(3.0))
    assert n_calls == 2
    assert Checkpoint(tmp_path, {"X": "1"}).read().arrays["live.centroids"][0, 0] == 3.0
    assert list(tmp_path.iterdir()) == [first.path]


@pytest.mark.fault(62)
def test_a_checkpoint_of_an_older_version_is_refused_with_a_remedy(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_VERSION", 1)
        Checkpoint(tmp_path, {"X": "1"}).write(state())
    with pytest.raises(ValueError, match=r"'format_version' is 1: .* Remove the file"):
        Checkpoint(tmp_path, {"X": "1"}).read()


@pytest.mark.fault(61)
def test_a_crash_while_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path, {"X": "1"})
    checkpoint.write(state(1.0))

    def crash(*arguments):
        raise OSError("the machine is gone")

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(OSError, match="the machine is gone"):
        checkpoint.write(state(2.0))
    monkeypatch.undo()
    die_while_replacing(checkpoint.path, monkeypatch)
    assert len(list(tmp_path.iterdir())) == 2
    assert Checkpoint(tmp_path, {"X": "1"}).read().arrays["live.centroids"][0, 0] == 1.0
    assert list(tmp_path.iterdir()) == [checkpoint.path]


def test_an_incomplete_file_is_said_to_be_a_checkpoint(tmp_path):
    checkpoint = Checkpoint(tmp_path, {"X": "1"})
    checkpoint.write(state())
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is a corrupt skdejavid checkpoint: "):
        checkpoint.read()


def test_a_damaged_checkpoint_is_refused_and_named(tmp_path):
    checkpoint = Checkpoint(tmp_path, {"X": "1"})
    checkpoint.write(state())
    content = bytearray(checkpoint.path.read_bytes())
    content[-1] ^= 1
    checkpoint.path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint-\w{16}\.safetensors.*its checksum differs"):
        checkpoint.read()
    checkpoint.path.write_bytes(content[:50])
    with pytest.raises(ValueError, match=r"checkpoint-\w{16}\.safetensors"):
        checkpoint.read()


def test_a_description_of_another_shape_says_that_removing_it_helps(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path, {"X": "1"})
    checkpoint.write(state())

    def lacks_a_key(file):
        return file.description["missing"]

    monkeypatch.setattr(checkpoints, "_read_state", lacks_a_key)
    with pytest.raises(ValueError, match=r"is corrupt: KeyError\('missing'\)\. Remove the file"):
        checkpoint.read()


def test_writing_takes_a_small_part_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        checkpoints, "write_array_file", lambda *arguments: now.__setitem__(0, now[0] + 1.0)
    )
    checkpoint = Checkpoint(tmp_path, {})
    written = []

    def note():
        written.append(now[0])
        return state()

    for _ in range(100):
        now[0] += 1.0
        checkpoint.write_if_due(note)
    assert written[0] == 1.0
    assert np.diff(written).min() >= 20
    assert len(written) == 5


def test_digests_are_of_values_and_not_of_how_they_lie_in_memory():
    X = TSEArray([np.arange(6.0).reshape(3, 2), np.ones((1, 2))])
    assert content_hash(X) == content_hash(TSEArray([X[0].copy(order="F"), X[1]]))
    assert content_hash(X[[1, 0]][[1, 0]]) == content_hash(X)
    others = [X[[1, 0]], X[:1], TSEArray([np.arange(6.0).reshape(3, 2) + 1e-12, X[1]])]
    others += [TSEArray([X[0][:2], np.vstack([X[0][2:], X[1]])])]  # the same frames, cut elsewhere
    assert len({content_hash(other) for other in [X, *others]}) == 5
    assert content_hash(np.array(["a", "b"])) != content_hash(np.array(["ab"]))


# --- fits ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"path_refresh": "epoch"},
        {"logit_scaling": "sample"},
        {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 2},
        {"learn_weights": False, "random_state": np.random.RandomState(3)},
        {"learn_centroids": False, "random_state": None},
    ],
    ids=lambda parameters: str(parameters).split(" at 0x")[0],
)
@pytest.mark.parametrize("n_done", [0, 1, 2])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_interrupted_fit_goes_on_to_the_same_bits(
    request, orders, tmp_path, monkeypatch, parameters, n_done, device
):
    if device == "cuda":
        request.getfixturevalue("emulated_cuda")
    monkeypatch.setattr(checkpoints, "_SHARE_OF_TIME", np.inf)  # after each epoch
    X, y = orders

    def classifier(folder):
        copies = {name: np.random.RandomState(3) for name in parameters if name == "random_state"}
        own = PARAMETERS | parameters | copies | {"differences": None, "device": device}
        return DejaVidClassifier(checkpoint_dir=folder, **own)

    undisturbed = classifier(None).fit(X, y)
    with monkeypatch.context() as patch:
        stop_after(patch, n_done)
        with pytest.raises(StopError):
            classifier(tmp_path).fit(X, y)
    assert_same_fit(classifier(tmp_path).fit(X, y), undisturbed)
    assert_same_fit(classifier(tmp_path).fit(X, y), undisturbed)  # of a completed fit


def test_initial_centroids_are_not_computed_twice(orders, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        with pytest.raises(StopError):
            DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS).fit(*orders)
    monkeypatch.setattr("skdejavid.training.fitting.class_barycenters", None)
    DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS).fit(*orders)


def count_epochs(monkeypatch):
    """Return a list that gets an item for each epoch that is trained."""
    train_epoch, trained = Training.train_epoch, []

    def train(self, epoch):
        trained.append(epoch)
        return train_epoch(self, epoch)

    monkeypatch.setattr(Training, "train_epoch", train)
    return trained


@pytest.mark.fault(62, 105)
def test_other_data_and_parameters_have_other_checkpoints(orders, tmp_path, monkeypatch):
    X, y = orders
    trained = count_epochs(monkeypatch)
    weight = np.arange(1, 31)
    fits = [
        ((X, y), {}),
        ((TSEArray([x * 2 for x in X]), y), {}),
        ((X, y[::-1]), {}),
        ((X, y, weight), {}),
        ((X.astype(np.float64), y), {}),
        ((X, y), {"learning_rate": 0.5}),
        ((X, y), {"random_state": 1}),
        ((X, y), {"class_weight": {0: 2, 1: 3}}),
    ]
    for n_files, (data, changes) in enumerate(fits, start=1):
        clf = DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS | changes).fit(*data)
        assert len(list(tmp_path.iterdir())) == n_files
        assert_same_fit(clf, DejaVidClassifier(**PARAMETERS | changes).fit(*data))
    assert len(trained) == 2 * 6 * len(fits)
    trained.clear()
    for data, changes in fits:  # all are complete
        clf = DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS | changes)
        clf.set_params(n_jobs=2, verbose=1, max_time=1000)  # do not change the result
        clf.fit(*data)
    assert trained == []


@pytest.mark.fault(105, 110)
def test_equal_parameters_find_the_same_checkpoint(orders, tmp_path, monkeypatch):
    def fit(**parameters):
        DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS | parameters).fit(*orders)

    fit(temperature=1, class_weight={0: 2, 1: 0.5}, differences=(1, 0.25))
    trained = count_epochs(monkeypatch)
    fit(
        temperature=np.float16(1),
        class_weight={np.int64(1): np.float32(0.5), 0: 2.0},
        differences=np.array([1, 0.25]),
        batch_size=np.uint8(7),
        random_state=np.int64(0),
        learn_weights=np.True_,
    )
    assert trained == []


@pytest.mark.slow
@pytest.mark.fault(105)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_has_a_checkpoint_for_each_fit_and_resumes(orders, tmp_path, monkeypatch, n_jobs):
    X, y = orders
    grid = {"temperature": [0.25, 0.5]}

    def search(folder):
        clf = DejaVidClassifier(checkpoint_dir=folder, **PARAMETERS)
        return GridSearchCV(clf, grid, cv=3, n_jobs=n_jobs, error_score="raise")

    undisturbed = search(None).fit(X, y)
    if n_jobs == 1:
        with monkeypatch.context() as patch:
            stop_after_all(patch, 20)
            with pytest.raises(StopError):
                search(tmp_path).fit(X, y)
        assert len(list(tmp_path.iterdir())) == 4
    trained = count_epochs(monkeypatch)
    found = search(tmp_path).fit(X, y)
    assert len(list(tmp_path.iterdir())) == 7
    n_trained = len(trained)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(found.cv_results_[name], undisturbed.cv_results_[name])
    assert_same_fit(found.best_estimator_, undisturbed.best_estimator_)
    if n_jobs == 1:
        assert 0 < n_trained < 7 * 6 - 12
        search(tmp_path).fit(X, y)
        assert len(trained) == n_trained


def stop_after_all(monkeypatch, n_epochs):
    """Make the next fits fail after `n_epochs` epochs of all of them together."""
    train_epoch, trained = Training.train_epoch, []

    def stop(self, epoch):
        if len(trained) == n_epochs:
            raise StopError
        trained.append(epoch)
        return train_epoch(self, epoch)

    monkeypatch.setattr(Training, "train_epoch", stop)


@pytest.mark.fault(105)
@pytest.mark.parametrize("random_state", [None, np.random.RandomState(5)], ids=["None", "instance"])
def test_without_a_seed_a_repeated_fit_finds_its_checkpoint(
    orders, tmp_path, monkeypatch, random_state
):
    own = {"checkpoint_dir": tmp_path, "random_state": random_state}
    clf = DejaVidClassifier(**PARAMETERS | own)
    first = clone(clf).fit(*orders)
    trained = count_epochs(monkeypatch)
    is_unseeded = random_state is None
    with pytest.warns(UserWarning, match="fit is complete") if is_unseeded else nullcontext():
        assert_same_fit(clone(clf).fit(*orders), first)
    assert trained == []


@pytest.mark.slow
@pytest.mark.fault(105)
def test_processes_that_run_the_same_fit_at_once_do_not_disturb_each_other(orders, tmp_path):
    X, y = orders
    parameters = PARAMETERS | {"n_epochs": 100, "n_jobs": 1}
    clf = DejaVidClassifier(checkpoint_dir=tmp_path, **parameters)
    fits = joblib.Parallel(n_jobs=2)(joblib.delayed(clone(clf).fit)(X, y) for _ in range(6))
    expected = DejaVidClassifier(**parameters).fit(X, y)
    for fit in fits:
        assert_same_fit(fit, expected)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_time_budget_ends_learning_and_the_same_fit_goes_on(orders, tmp_path):
    X, y = orders
    clf = DejaVidClassifier(checkpoint_dir=tmp_path, max_time=1e-9, **PARAMETERS)
    message = r"max_time=1e-09 stopped training after epoch 1 of 6; call fit again to resume"
    with pytest.warns(ConvergenceWarning, match=message):
        clf.fit(X, y)
    assert clf.n_iter_ == 1
    assert clf.predict(X).shape == (30,)
    with pytest.warns(ConvergenceWarning, match="after epoch 2 of 6"):
        clf.fit(X, y)
    clf.set_params(max_time=None).fit(X, y)
    assert_same_fit(clf, DejaVidClassifier(**PARAMETERS).fit(X, y))
    with pytest.warns(ConvergenceWarning, match=r"after epoch 1 of 6$"):
        DejaVidClassifier(max_time=1e-9, **PARAMETERS).fit(X, y)


def test_a_fit_without_anything_to_learn_needs_no_checkpoint(orders, tmp_path):
    X, _ = orders
    DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS).fit(X, np.zeros(30))
    assert list(tmp_path.iterdir()) == []


KILLED = """
import faulthandler, json, os, random, signal, sys, time
import numpy as np
from skdejavid import DejaVidClassifier
from skdejavid.datasets import make_order_sequences
faulthandler.dump_traceback_later(300, exit=True)
X, y = make_order_sequences(200, random_state=0)
parameters = dict(n_epochs=60, n_timesteps=8, random_state=0, early_stopping=True,
                  n_iter_no_change=60)
begin = time.monotonic()
undisturbed = DejaVidClassifier(**parameters).fit(X, y)
seconds = min(time.monotonic() - begin, 20.0)  # a machine may have stood still
random.seed(0)
n_killed = 0
for _ in range(20):
    child = os.fork()
    if child == 0:
        DejaVidClassifier(checkpoint_dir=sys.argv[1], **parameters).fit(X, y)
        os._exit(0)
    time.sleep(random.uniform(0, seconds / 8))
    os.kill(child, signal.SIGKILL)
    n_killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
resumed = DejaVidClassifier(checkpoint_dir=sys.argv[1], **parameters).fit(X, y)
same = [np.array_equal(getattr(resumed, name), getattr(undisturbed, name))
        for name in ("centroids_", "log_weights_")]
same += [np.array_equal(resumed.history_[name], values)
         for name, values in undisturbed.history_.items()]
print(json.dumps({"killed": n_killed, "same": same}))
"""


@pytest.mark.slow
@pytest.mark.fault(61)
def test_killed_at_20_random_moments_a_fit_ends_with_the_same_bits(tmp_path):
    command = [sys.executable, "-P", "-c", KILLED, str(tmp_path / "checkpoint")]
    printed = subprocess.check_output(command, text=True, cwd=tmp_path, timeout=360)
    outcome = json.loads(printed)
    assert outcome["killed"] >= 15
    assert outcome["same"] == [True] * 7


@pytest.mark.fault(78)
def test_a_pipe_in_place_of_a_checkpoint_is_refused_at_once(tmp_path, orders):
    clf = DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS).fit(*orders)
    (path,) = tmp_path.iterdir()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"checkpoint-\w+\.safetensors is a named pipe"):
        clf.fit(*orders)


@pytest.mark.fault(108)
def test_a_checkpoint_of_another_byte_order_is_that_of_the_same_fit(tmp_path, orders, monkeypatch):
    X, y = orders
    expected = DejaVidClassifier(**PARAMETERS).fit(X, y)
    clf = DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS)
    order = X[0].dtype.newbyteorder(">")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StopError):
            clf.fit([x.astype(order) for x in X], y.astype(y.dtype.newbyteorder(">")))
    clf.fit(X, y)
    np.testing.assert_array_equal(clf.centroids_, expected.centroids_)


@pytest.mark.fault(85)
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path, {"X": "1"})
    checkpoint.write(state(1.0))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: .*checkpoint-\w+\.saf"):
            checkpoint.write(state(2.0))
    assert Checkpoint(tmp_path, {"X": "1"}).read().arrays["live.centroids"][0, 0] == 1.0
    assert list(tmp_path.iterdir()) == [checkpoint.path]


@pytest.mark.fault(86)
def test_a_generator_that_cannot_be_stored_is_refused_before_training(tmp_path, orders):
    random_state = np.random.RandomState(np.random.PCG64(0))
    parameters = PARAMETERS | {"random_state": random_state, "checkpoint_dir": tmp_path}
    with pytest.raises(ValueError, match="random_state draws from PCG64, whose state cannot"):
        DejaVidClassifier(**parameters).fit(*orders)


@pytest.mark.fault(83)
def test_arrays_of_another_shape_are_refused(tmp_path, orders, monkeypatch):
    clf = DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StopError):
            clf.fit(*orders)
    (path,) = tmp_path.iterdir()
    with ArrayFile(path, "checkpoint", 2) as file:
        names = [name.removeprefix("array.") for name in file.headers if name.startswith("array.")]
    assert len(names) > 3
    read = checkpoints._read_state
    for changed in names:
        for shape in [(1, 1), (3, 2, 7)]:

            def other(file, changed=changed, shape=shape):
                found = read(file)
                found.arrays[changed] = np.ones(shape, found.arrays[changed].dtype)
                return found

            with monkeypatch.context() as patch:
                patch.setattr(checkpoints, "_read_state", other)
                with pytest.raises(ValueError, match=f"{changed} must have shape"):
                    clf.fit(*orders)


# --- generators ---------------------------------------------------------------------------------


@pytest.mark.fault(105)
def test_generators_in_other_states_have_other_checkpoints(orders, tmp_path):
    """Three fits draw from one generator, and so do their repetitions."""

    def fits(folder, seed):
        generator = np.random.RandomState(seed)
        own = {"random_state": generator, "checkpoint_dir": folder}
        clf = DejaVidClassifier(**PARAMETERS | own)
        # Not cloned: a clone would have a copy of the generator.
        return [copy.copy(clf).fit(*orders) for _ in range(3)], generator.standard_normal()

    expected, next_number = fits(None, 1)
    for _ in range(2):
        found, number = fits(tmp_path, 1)
        for mine, fit in zip(found, expected, strict=True):
            assert_same_fit(mine, fit)
        assert number == next_number
        assert len(list(tmp_path.iterdir())) == 3
    others, _ = fits(tmp_path, 2)
    assert len(list(tmp_path.iterdir())) == 6
    fits_of_all = [*expected, *others]
    assert len({fit.centroids_.tobytes() for fit in fits_of_all}) == 6


@pytest.mark.fault(105)
def test_an_interrupted_fit_draws_on_from_the_generator_of_its_repetition(
    orders, tmp_path, monkeypatch
):
    undisturbed, resumed = np.random.RandomState(7), np.random.RandomState(7)
    expected = DejaVidClassifier(**PARAMETERS | {"random_state": undisturbed}).fit(*orders)
    own = {"checkpoint_dir": tmp_path, "early_stopping": False}
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        clf = DejaVidClassifier(**PARAMETERS | own | {"random_state": np.random.RandomState(7)})
        with pytest.raises(StopError):
            clf.fit(*orders)
    clf = DejaVidClassifier(**PARAMETERS | own | {"random_state": resumed}).fit(*orders)
    assert_same_fit(clf, expected)
    assert resumed.standard_normal() == undisturbed.standard_normal()


COMPLETE = r"random_state is None, but this fit is complete: .*checkpoint-\w+\.safetensors"


@pytest.mark.fault(105)
@pytest.mark.parametrize("stops_early", [False, True])
def test_a_complete_fit_without_a_seed_is_restored_with_a_warning(orders, tmp_path, stops_early):
    own = {"checkpoint_dir": tmp_path, "random_state": None, "early_stopping": stops_early}
    own |= {"validation_fraction": 0.3, "n_iter_no_change": 1, "learning_rate": 5.0}
    clf = DejaVidClassifier(**PARAMETERS | own | {"n_epochs": 30 if stops_early else 6})
    clf.fit(*orders)
    assert (clf.n_iter_ < 30) == stops_early or clf.n_iter_ == 6
    first, state = copy.copy(clf), generator_state(check_random_state(None))
    with pytest.warns(UserWarning, match=COMPLETE) as caught:
        clf.fit(*orders)
    assert caught[0].filename == __file__
    assert_same_fit(clf, first)
    np.testing.assert_equal(generator_state(check_random_state(None)), state)  # not drawn from


@pytest.mark.fault(105)
def test_an_unfinished_fit_without_a_seed_goes_on_without_a_warning(orders, tmp_path, monkeypatch):
    own = {"checkpoint_dir": tmp_path, "random_state": None}
    clf = DejaVidClassifier(max_time=1e-9, **PARAMETERS | own)
    with pytest.warns(ConvergenceWarning, match="call fit again to resume from the checkpoint$"):
        clf.fit(*orders)
    trained = count_epochs(monkeypatch)
    clf.set_params(max_time=None).fit(*orders)
    assert trained == [1, 2, 3, 4, 5]


def test_the_same_call_needs_the_same_seed(orders, tmp_path):
    generator = np.random.RandomState(0)
    own = {"checkpoint_dir": tmp_path, "random_state": generator, "max_time": 1e-9}
    with pytest.warns(ConvergenceWarning, match="resume .* a random_state made from the same seed"):
        DejaVidClassifier(**PARAMETERS | own).fit(*orders)


# --- folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("", ValueError, "got '': None writes no checkpoints, and '.' is the working folder"),
        ("a\0b", ValueError, r"must be the name of a folder, got 'a\\x00b'"),
        ("file", NotADirectoryError, "must be a folder, but 'file' is none: remove it"),
        ("file/inside/it", NotADirectoryError, "must be a folder, but 'file' is none: remove it"),
        ("dangling", NotADirectoryError, "must be a folder, but 'dangling' is none: remove it"),
    ],
)
def test_what_is_no_folder_is_refused_before_anything_is_computed(
    name, error, message, orders, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    X, y = orders
    for targets in (y, np.zeros(30), None):  # also without anything to learn, and first of all
        with pytest.raises(error, match=f"checkpoint_dir.* {message}"):
            DejaVidClassifier(checkpoint_dir=name, **PARAMETERS).fit(X, targets)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_folders_are_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for folder in (None, ".", "new", "new/inside", "link", tmp_path / "real", tmp_path / "a" / "b"):
        assert check_folder(folder) is None
    assert not (tmp_path / "new").exists()


@pytest.mark.fault(61)
@pytest.mark.parametrize("part", [0.0, 0.0003, 0.01, 0.5, 0.999, "changed"])
def test_a_damaged_checkpoint_says_that_removing_it_helps(part, orders, tmp_path):
    clf = DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS).fit(*orders)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if part == "changed":
        content[-3] ^= 1
    else:
        content = content[: int(part * len(content))]
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"checkpoint-\w+\.safetensors.*\. Remove the file to start"
    ):
        clf.fit(*orders)
    path.unlink()
    clf.fit(*orders)


@pytest.mark.fault(105)
@pytest.mark.parametrize("dtype", ["M8[s]", "m8[ns]"])
def test_labels_that_are_times_have_checkpoints(dtype, orders, tmp_path, monkeypatch):
    X, y = orders
    clf = DejaVidClassifier(checkpoint_dir=tmp_path, **PARAMETERS).fit(X, y.astype(dtype))
    trained = count_epochs(monkeypatch)
    clf.fit(X, y.astype(dtype))
    assert trained == []
    assert clf.classes_.dtype == dtype
