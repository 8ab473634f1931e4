"""Memory: what a fit keeps, and what happens without any left."""

import subprocess
import sys
import weakref

import pytest

from skdejavid import DejaVidClassifier, classifier

LIMITED = """
import resource
import numpy as np
from skdejavid import DejaVidClassifier, TSEArray, dtw_distances, check_sequences
rng = np.random.default_rng(0)
X = [rng.standard_normal((n, 200)).astype(np.float32) for n in (5, 9, 4, 7)]
y = [0, 1, 0, 1]
parameters = dict(n_epochs=1, differences=None, random_state=0)
small = DejaVidClassifier(4, **parameters).fit(X, y)
expected = small.predict_proba(X)
few = TSEArray.from_packed(np.zeros((20_000, 1)), np.arange(20_001))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
huge = np.lib.stride_tricks.as_strided(np.zeros(1), (2**20, 300), (0, 0))
calls = {
    "fit": lambda: DejaVidClassifier(60_000, **parameters).fit(X, y),
    "distances": lambda: dtw_distances(few, np.zeros((20_000, 1, 1))),
    "predict": lambda: small.predict(X * 100_000),
    "check_sequences": lambda: check_sequences([huge]),
}
for name, call in calls.items():
    try:
        call()
    except (MemoryError, ValueError) as error:
        print(name, type(error).__name__)
    else:
        print(name, "succeeded")
assert np.array_equal(small.predict_proba(X), expected)
DejaVidClassifier(4, **parameters).fit(X, y)
print("done")
"""


@pytest.mark.slow
@pytest.mark.fault(45)
def test_without_memory_there_is_an_error_and_the_interpreter_goes_on(tmp_path):
    command = [sys.executable, "-P", "-c", LIMITED]
    printed = subprocess.check_output(command, text=True, cwd=tmp_path).split("\n")
    assert printed[-2] == "done"
    outcomes = dict(line.split() for line in printed[:-2])
    assert set(outcomes.values()) <= {"MemoryError", "ValueError"}
    assert set(outcomes) == {"fit", "distances", "predict", "check_sequences"}


def test_training_keeps_only_the_sequences_that_it_compares(ragged, monkeypatch):
    """With differences these are a copy, next to which the sequences as read are not needed."""
    X, y = ragged
    read, freed = [], []

    class Watched(DejaVidClassifier):
        def _read_training(self, X, *, reset=True):
            sequences = super()._read_training(X, reset=reset)
            read.append(weakref.ref(sequences.frames))
            return sequences

    def train(*arguments):
        freed.append(read[0]() is None)
        return original(*arguments)

    original = classifier.train
    monkeypatch.setattr(classifier, "train", train)
    Watched(2, differences=(1,), n_epochs=1, random_state=0).fit(X, y)
    assert freed == [True]
