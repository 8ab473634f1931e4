"""Threads that fit, predict, save and load at the same time get the results of one thread.

SKDEJAVID_STRESS_SECONDS is the duration; CI uses 120.
"""

import os
import threading
import time

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
