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


LONG = """
import resource
import numpy as np
from skdejavid import _core, dtw_path
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
n = 12_000
x, y = np.random.default_rng(0).integers(0, 9, size=(2, n, 1)).astype(np.float64)
dtw_path(x[:9], y[:9])
begin = peak()
path = dtw_path(x, y)
said = _core.ProblemFloat64.paths_bytes(
    n_frames=n, n_centroids=1, n_timesteps=n, n_features=1, n_threads=1
)
print(peak() - begin, said, len(path))
"""


@pytest.mark.slow
@pytest.mark.fault(113)
def test_a_long_path_takes_the_memory_that_is_said_and_not_that_of_all_cells(tmp_path):
    """A byte for each cell would be 144 MB."""
    command = [sys.executable, "-P", "-c", LONG]
    taken, said, n_cells = map(
        float, subprocess.check_output(command, text=True, cwd=tmp_path).split()
    )
    assert taken < 8e7
    assert taken <= said + 2**23  # the path itself, and what else the interpreter allocates
    assert said < 8e7
    assert n_cells >= 12_000


REFUSED = """
import resource
import numpy as np
from skdejavid import _core
zeros = np.zeros((1, 400_000, 1))
problem = _core.ProblemFloat64(
    np.zeros((240, 1)), np.array([0]), np.array([240]), zeros, zeros, 1
)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
try:
    problem.distances(True)
except MemoryError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.fault(113)
def test_memory_that_cannot_be_allocated_is_said(tmp_path):
    """The costs of 240 frames and 400,000 time steps are 768 MB."""
    command = [sys.executable, "-P", "-c", REFUSED]
    printed = subprocess.check_output(command, text=True, cwd=tmp_path)
    assert printed.startswith("the native core could not allocate 768 MB of memory: pass fewer")


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
