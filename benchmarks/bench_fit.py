"""Cost of training beyond its native work: an epoch of HMDB51's size, a whole fit, its memory.

python benchmarks/bench_fit.py
"""

import argparse
import cProfile
import json
import pstats
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from cases import CASES
from peak import measure_peak
from rounds import of_quiet_rounds

from skdejavid import DejaVidClassifier, TSEArray
from skdejavid.backends.state import InitialParameters, TrainingData, TrainingSettings
from skdejavid.training.loop import Training
from skdejavid.training.loss import SoftMinCrossEntropy

MEGABYTE = 1e6


def sequences_of(case, n_sequences):
    """Return generated sequences, and a class for each."""
    values = case.draw(n_sequences)[0]
    X = TSEArray(values.reshape(n_sequences, case.n_frames, case.n_features))
    return X, np.arange(n_sequences) % case.n_centroids


class Clock:
    """Observer that notes when each epoch ended, the peak then, and when the next one began."""

    def __init__(self):
        self.marks = []
        self.mark()

    def mark(self):
        end = time.perf_counter()
        self.marks.append((end, measure_peak(), time.perf_counter()))

    def on_epoch_begin(self):
        pass

    def on_epoch_end(self, record, training):
        self.mark()


def epoch_over_elements(path_refresh, n_sequences=3570, n_epochs=9):
    """Return the time of an epoch over that of its elements at the peak of its one thread.

    The elements are those of the paths, and twice those along them, for value and gradient. If
    paths are refreshed in every batch, the search for the paths gives the value as well.
    """
    case = CASES["HMDB51"]
    X, y = sequences_of(case, n_sequences)
    *_, centroids, weights = case.draw(1)
    scale = np.ones(case.n_features, dtype=np.float32)
    initial = InitialParameters(centroids, np.log(weights + 0.1), scale)
    settings = TrainingSettings(
        loss=SoftMinCrossEntropy("sample"),
        learn_weights=True,
        learn_centroids=True,
        diagonal=False,
        path_refresh=path_refresh,
        learning_rate=1e-3,
        centroid_learning_rate=3e-4,
        batch_size=48,
        n_epochs=n_epochs,
        n_threads=1,
    )
    data = TrainingData(X, y, np.ones(n_sequences))
    clock = Clock()
    Training(data, initial, settings, np.random.RandomState(0)).learn([clock])
    elements = n_sequences * (case.n_elements + 2 * case.n_elements_along)
    epochs = [
        (min(before, after), (end - begin) * max(before, after) / elements)
        for (_, before, begin), (end, after, _) in pairwise(clock.marks)
    ]
    highest = max(peak for peak, _ in epochs)
    return statistics.median(of_quiet_rounds(epochs, highest))


def parts_of_a_fit(n_rounds=5):
    """Return the share of each part of a whole fit on JapaneseVowels, with one thread.

    Also the time of an optimizer step as a multiple of that of its native work.
    """
    from aeon.datasets import load_japanese_vowels

    X, y = load_japanese_vowels("train")
    X = TSEArray.from_aeon(X)
    DejaVidClassifier(n_jobs=1, n_epochs=1).fit(X, y)
    rounds = [profile_of_a_fit(X, y) for _ in range(n_rounds)]
    return {part: statistics.median(entry[part] for entry in rounds) for part in rounds[0]}


def profile_of_a_fit(X, y):
    """Return the seconds of a fit, and the shares of its parts by cProfile."""
    model = DejaVidClassifier(n_jobs=1, random_state=0)
    begin = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - begin
    profile = cProfile.Profile()
    profile.runcall(model.fit, X, y)
    stats = pstats.Stats(profile).stats
    total = own_time(stats, "")
    barycenters = cumulative_time(stats, "_barycenters")
    epochs = cumulative_time(stats, "train_epoch")
    native = sum(
        own_time(stats, f"skdejavid._core.{name}")
        for name in ("distances_along", "parameter_gradients", "adam_step")
    )
    # Barycenters need paths as well, which are not counted.
    native += cumulative_calls(stats, "paths", caller="evaluate_batch")
    return {
        "seconds": seconds,
        "barycenters": barycenters / total,
        "native work of steps": native / total,
        "rest of steps": (epochs - native) / total,
        "everything else": (total - epochs - barycenters) / total,
        "step over its native work": epochs / native,
    }


def own_time(stats, name):
    """Return the seconds in functions whose name contains `name`, without their callees."""
    return sum(own for key, (_, _, own, _, _) in stats.items() if name in key[2])


def cumulative_time(stats, name):
    """Return the seconds in the function of this name and its callees."""
    return sum(total for key, (_, _, _, total, _) in stats.items() if key[2] == name)


def cumulative_calls(stats, name, caller):
    """Return the seconds in native functions of this name called by `caller`."""
    return sum(
        timing[3]
        for key, (*_, callers) in stats.items()
        if f"skdejavid._core.{name}" in key[2]
        for by, timing in callers.items()
        if by[2] == caller
    )


def peak_memory(n_sequences=500):
    """Return the megabytes that a fit of Kinetics-400's size adds to the memory of a process."""
    command = [sys.executable, __file__, "--measure-memory", str(n_sequences)]
    return json.loads(subprocess.check_output(command, text=True))


def measure_memory(n_sequences):
    """Return the same for this process, which must not have done anything else."""
    case = CASES["Kinetics-400"]
    values, *_ = case.draw(n_sequences)
    X = TSEArray(values.reshape(n_sequences, case.n_frames, case.n_features))
    y = np.arange(n_sequences) % case.n_centroids
    del values
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak after making the data
    before = resident_megabytes("VmRSS")
    DejaVidClassifier(n_timesteps=case.n_timesteps, n_epochs=2).fit(X, y)
    added = resident_megabytes("VmHWM") - before
    array = case.n_centroids * case.n_timesteps * case.n_features * 4 / MEGABYTE
    return {
        "added by fit": added,
        "of a parameter": array,
        "parameter-sized arrays beyond 100 MB": (added - 100) / array,
    }


def resident_megabytes(which):
    """Return the memory of this process on Linux: "VmRSS" now, "VmHWM" at most since a reset."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024 / MEGABYTE


def results():
    """Measure everything."""
    return {
        "HMDB51 epoch over its elements, by path_refresh": {
            path_refresh: epoch_over_elements(path_refresh) for path_refresh in ("epoch", "batch")
        },
        "JapaneseVowels fit": parts_of_a_fit(),
        "Kinetics-400 fit, megabytes": peak_memory(),
    }


def main():
    """Print the results, and write them as JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure-memory", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_memory:
        print(json.dumps(measure_memory(arguments.measure_memory)))
        return
    measured = results()
    print(json.dumps(measured, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
