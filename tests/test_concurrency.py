"""Threads that fit, predict, save and load at the same time get the results of one thread.

SKDEJAVID_STRESS_SECONDS is the duration; CI uses 120.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from skdejavid import DejaVidClassifier
from skdejavid.datasets import make_order_sequences

SECONDS = float(os.environ.get("SKDEJAVID_STRESS_SECONDS", "5"))
N_THREADS = 8


@pytest.mark.slow
@pytest.mark.fault(51)
def test_threads_that_do_everything_at_once_get_the_answers_of_one_alone(tmp_path):
    X, y = make_order_sequences(40, random_state=0)

    def fitted(seed):
        return DejaVidClassifier(4, n_epochs=2, random_state=seed).fit(X, y)

    alone = [fitted(seed) for seed in range(3)]
    expected = [clf.predict_proba(X) for clf in alone]
    shared = tmp_path / "shared"
    alone[0].save(shared)
    errors, n_rounds = [], [0] * N_THREADS

    def work(thread):
        own = tmp_path / str(thread)
        end = time.monotonic() + SECONDS
        try:
            while time.monotonic() < end or n_rounds[thread] == 0:
                seed = n_rounds[thread] % 3
                mine = fitted(seed)
                np.testing.assert_array_equal(mine.centroids_, alone[seed].centroids_)
                np.testing.assert_array_equal(alone[seed].predict_proba(X), expected[seed])
                mine.save(own)
                loaded = DejaVidClassifier.load(own)
                np.testing.assert_array_equal(loaded.predict_proba(X), expected[seed])
                alone[0].save(shared)  # all threads write and read one file
                np.testing.assert_array_equal(
                    DejaVidClassifier.load(shared).predict_proba(X), expected[0]
                )
                n_rounds[thread] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    assert min(n_rounds) >= 1
    assert {path.name for path in tmp_path.iterdir()} == {"shared", *map(str, range(N_THREADS))}


PRELUDE = """
import faulthandler, sys, threading
faulthandler.dump_traceback_later(60, exit=True)
import joblib, numpy as np
from sklearn.model_selection import GridSearchCV
from skdejavid import DejaVidClassifier
from skdejavid.datasets import make_order_sequences
from skdejavid.inspection import permutation_importance
X, y = make_order_sequences(36, random_state=0)
clf = DejaVidClassifier(n_epochs=2, random_state=0).fit(X, y)
def search(n_jobs):
    grid = {"temperature": [0.25, 0.5]}
    return GridSearchCV(clf, grid, cv=2, n_jobs=n_jobs).fit(X, y).cv_results_["mean_test_score"]
def search_in_threads(n_jobs):
    with joblib.parallel_config("threading"):  # each thread has a configuration of its own
        return search(n_jobs)
def importance(n_jobs):
    return permutation_importance(clf, X, y, n_jobs=n_jobs, random_state=0)["importances"]
def in_threads(function, numbers):
    results = []
    def call(n_jobs):
        results.extend(function(n_jobs) for _ in range(2))
    threads = [threading.Thread(target=call, args=(n_jobs,)) for n_jobs in numbers]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return len(results), all(np.array_equal(result, function(1)) for result in results)
"""


@pytest.mark.slow
@pytest.mark.fault(91)
@pytest.mark.parametrize(
    "program",
    [
        "print(in_threads(importance, (2, 3, 4, 2)))",
        "print(in_threads(search, (2, 2, 2, 2)))",
        "print(in_threads(search_in_threads, (2, 3, 4, 2)))",
    ],
    ids=["importance", "loky", "threading"],
)
def test_jobs_inside_of_threads_end(program, tmp_path):
    """The processes of loky can wait without end if threads ask for different numbers."""
    command = [sys.executable, "-c", PRELUDE + program]
    with (tmp_path / "printed").open("w+") as printed:  # a pipe would stay open in the workers
        running = subprocess.Popen(
            command, stdout=printed, stderr=printed, cwd=tmp_path, start_new_session=True
        )
        try:
            running.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    assert (tmp_path / "printed").read_text() == "(8, True)\n"
