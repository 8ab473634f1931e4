"""scikit-learn's callbacks, and estimators without them."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import skdejavid.compat.callbacks
from skdejavid import DejaVidClassifier
from skdejavid.datasets import make_order_sequences

# Older versions of scikit-learn have none; the last test is for them.
sklearn_callback = pytest.importorskip("sklearn.callback")

QUICK = {"n_epochs": 4, "n_timesteps": 4, "random_state": 0}


@pytest.fixture(scope="module")
def orders():
    return make_order_sequences(60, random_state=0)


class Recorder:
    """Callback that records its calls, and requests to stop after some epochs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events, self.seen = [], []

    def setup(self, estimator, context):
        self.events.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context, *, X, y, metadata):
        self.events.append(("begin", context.task_name, context.task_id))
        self.max_subtasks = max(context.max_subtasks, getattr(self, "max_subtasks", 0))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.events.append(("end", context.task_name, context.task_id))
        self.seen.append((X, y, metadata, fitted_estimator))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def epochs(n):
    return [(what, "epoch", i) for i in range(n) for what in ("begin", "end")]


def whole_fit(tasks):
    start = [("setup", "fit"), ("begin", "fit", 0)]
    return [*start, *tasks, ("end", "fit", 0), ("teardown", "fit")]


def test_a_fit_and_its_epochs_are_told_in_order(orders):
    recorder = Recorder()
    clf = DejaVidClassifier(**QUICK).set_callbacks(recorder)
    assert clf.fit(*orders) is clf
    assert recorder.events == whole_fit(epochs(4))
    assert recorder.max_subtasks == 4
    assert not [name for name in vars(clf) if "context" in name or "teardown" in name]


def test_callbacks_change_no_bit(orders):
    watched = DejaVidClassifier(**QUICK).set_callbacks(Recorder()).fit(*orders)
    alone = DejaVidClassifier(**QUICK).fit(*orders)
    np.testing.assert_array_equal(watched.centroids_, alone.centroids_)
    np.testing.assert_array_equal(watched.log_weights_, alone.log_weights_)


def test_callbacks_see_the_data_and_a_model_that_predicts(orders):
    """After epoch k the model equals that of a fit which ends there; at the end, the fitted one."""
    X, y = orders
    weight = np.linspace(1, 2, len(y))
    recorder = Recorder()
    clf = DejaVidClassifier(**QUICK).set_callbacks(recorder).fit(X, y, weight)
    for i, (data, targets, metadata, model) in enumerate(recorder.seen):
        assert data is X
        assert targets is y
        assert metadata["sample_weight"] is weight
        stopped = DejaVidClassifier(**QUICK).set_callbacks(Recorder(stop_after=i + 1))
        expected = stopped.fit(X, y, weight) if i < 4 else clf
        np.testing.assert_array_equal(model.transform(X), expected.transform(X))
        assert model.n_iter_ == expected.n_iter_ == min(i + 1, 4)
    assert len(recorder.seen) == 5


def test_a_callback_can_end_the_fit(orders):
    recorder = Recorder(stop_after=2)
    clf = DejaVidClassifier(**QUICK).set_callbacks(recorder).fit(*orders)
    assert clf.n_iter_ == len(clf.history_["loss"]) == 2
    assert recorder.events == whole_fit(epochs(2))


def test_early_stopping_leaves_no_task_open(orders):
    recorder = Recorder()
    clf = DejaVidClassifier(
        **QUICK | {"n_epochs": 40}, early_stopping=True, validation_fraction=0.3, n_iter_no_change=1
    )
    n_iter = clf.set_callbacks(recorder).fit(*orders).n_iter_
    assert n_iter < 40
    assert recorder.events == whole_fit(epochs(n_iter))


@pytest.mark.fault(38)
def test_an_epoch_that_diverges_ends_as_well(orders):
    X, y = orders
    recorder = Recorder()
    steps = {"learning_rate": 40.0, "centroid_learning_rate": 1e30, "batch_size": 60}
    clf = DejaVidClassifier(**QUICK | steps)
    with pytest.warns(ConvergenceWarning) as caught:
        clf.set_callbacks(recorder).fit(X, y)
    assert caught[0].filename == __file__
    assert recorder.events == whole_fit(epochs(clf.n_iter_ + 1))


def test_one_class_has_no_epochs(orders):
    recorder = Recorder()
    DejaVidClassifier(**QUICK).set_callbacks(recorder).fit(orders[0], np.zeros(60))
    assert recorder.events == whole_fit([])


@pytest.mark.fault(41)
def test_callbacks_end_when_the_fit_fails(orders):
    class Failing(Recorder):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch" and context.task_id == 1:
                raise KeyError("no disk")

    recorder = Failing()
    clf = DejaVidClassifier(**QUICK).set_callbacks(recorder)
    before = dict(vars(clf))
    with pytest.raises(KeyError, match="no disk"):
        clf.fit(*orders)
    assert recorder.events[-1] == ("teardown", "fit")
    assert vars(clf) == before


def test_scores_are_monitored_after_every_epoch(orders):
    monitor = sklearn_callback.ScoringMonitor(scoring="accuracy")
    clf = DejaVidClassifier(**QUICK).set_callbacks(monitor).fit(*orders)
    rows = monitor.get_logs().data
    by_task = {row["task_id_path"]: row["accuracy"] for row in rows}
    assert sorted(by_task) == [(0,), (0, 0), (0, 1), (0, 2), (0, 3)]
    assert by_task[(0,)] == by_task[(0, 3)] == clf.score(*orders)


def test_scores_are_monitored_inside_of_a_search(orders):
    X, y = orders
    monitor = sklearn_callback.ScoringMonitor(scoring="accuracy")
    clf = DejaVidClassifier(**QUICK).set_callbacks(monitor)
    GridSearchCV(clf, {"n_timesteps": [2, 4]}, cv=2, refit=False).fit(X, y)
    rows = [row for log in monitor.get_logs(select="all") for row in log.data]
    assert sum(row["task_name"] == "epoch" for row in rows) == 2 * 2 * 4


def test_a_progress_bar_of_a_search_reaches_the_epochs(orders, capsys):
    search = GridSearchCV(DejaVidClassifier(**QUICK), {"n_timesteps": [2, 4]}, cv=2)
    search.set_callbacks(sklearn_callback.ProgressBar()).fit(*orders)
    assert "DejaVidClassifier - fit" in capsys.readouterr().out


def test_clones_share_callbacks_and_what_is_no_callback_is_refused():
    clf = DejaVidClassifier().set_callbacks(Recorder())
    assert clone(clf)._skl_callbacks is clf._skl_callbacks
    with pytest.raises(TypeError, match="callbacks must be instances"):
        clf.set_callbacks(print)


@pytest.fixture
def older_scikit_learn(monkeypatch):
    """The module as it is where scikit-learn has no callbacks."""
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("sklearn.callback")]:
            patch.setitem(sys.modules, name, None)
        yield importlib.reload(skdejavid.compat.callbacks)
    importlib.reload(skdejavid.compat.callbacks)


def test_without_callbacks_nothing_happens(older_scikit_learn):
    class Plain(older_scikit_learn.CallbackSupportMixin):
        pass

    assert not older_scikit_learn.HAS_CALLBACKS
    assert not hasattr(Plain(), "set_callbacks")
    tasks = older_scikit_learn.FitTasks(Plain(), None, None, None, dict)
    with older_scikit_learn.teardown_after_fit(Plain()):
        tasks.begin(2)
        tasks.on_epoch_begin()
        assert tasks.on_epoch_end({}, SimpleNamespace(result=dict)) is None
        tasks.end({})
