"""Measure time and memory of a grid search over a memory map, compared with a list of arrays.

python benchmarks/bench_search.py

The search has 4 candidates, 3 folds and a refit over 0.6 GB of frames, in two worker processes.
Each case runs in a process of its own. *Start* is the time of the same search over 60 sequences, in
which the workers start and load their libraries. *Extra* is the peak of the memory that all
processes together use beyond the memory before the start: anonymous and shared memory, each page
divided by the number of processes that map it (Pss_Anon and Pss_Shmem of Linux's
/proc/PID/smaps_rollup). *Mapped* are pages of files (Pss_File), that is, libraries and the frames
that were read; the system reclaims them when it needs memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import joblib
import numpy as np
from cases import CASES
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV

from skdejavid import DejaVidClassifier, TSEArray

CASE = CASES["Kinetics-400"]
N_CLASSES, N_FOLDS, N_PROCESSES = 10, 3, 2
STAGES = ("start", "seconds")
MEGABYTE = 1e6


class NearestMean(ClassifierMixin, BaseEstimator):
    """Nearest mean: the cheapest classifier that reads every frame."""

    def __init__(self, shrinkage=0.0):
        self.shrinkage = shrinkage

    def fit(self, X, y):
        """Compute the mean of each class, shrunk towards the mean of all."""
        means = means_of(X)
        self.classes_ = np.unique(y)
        centers = np.stack([means[y == label].mean(axis=0) for label in self.classes_])
        self.centers_ = centers + self.shrinkage * (means.mean(axis=0) - centers)
        return self

    def predict(self, X):
        """Return the class of each sequence."""
        return self.classes_[cdist(means_of(X), self.centers_).argmin(axis=1)]


def means_of(X):
    """Return the mean frame of each sequence, by a product, which reads frames fastest."""
    return np.stack([np.full(len(x), 1 / len(x), dtype=x.dtype) @ x for x in X])


def mapped(path):
    """Map the sequences of a file without reading them."""
    frames = np.load(path, mmap_mode="r")
    return TSEArray.from_packed(frames, np.arange(0, len(frames) + 1, CASE.n_frames))


def listed(path):
    """Read the sequences of a file, each into an array."""
    return [np.array(x) for x in mapped(path)]


SEARCHES = {
    "nearest mean, list of arrays": (listed, NearestMean(), {"shrinkage": [0, 0.1, 0.2, 0.3]}),
    "nearest mean, TSEArray": (mapped, NearestMean(), {"shrinkage": [0, 0.1, 0.2, 0.3]}),
    "DejaVidClassifier, TSEArray": (
        mapped,
        DejaVidClassifier(4, differences=None, n_epochs=2, n_jobs=1, random_state=0),
        {"learning_rate": [0.003, 0.01, 0.03, 0.1]},
    ),
}


class MemoryOfProcesses(threading.Thread):
    """Records the peak memory of this process and its descendants while it runs."""

    def __init__(self, seconds_between=0.05):
        super().__init__(daemon=True)
        self._seconds_between, self._ended = seconds_between, threading.Event()
        self.before, self.highest = used_megabytes(), defaultdict(float)

    def run(self):
        """Sample the memory until `end` is called."""
        while not self._ended.wait(self._seconds_between):
            for kind, megabytes in used_megabytes().items():
                self.highest[kind] = max(self.highest[kind], megabytes)

    def end(self):
        """Stop, and return the increase from the beginning to the peak, by kind."""
        self._ended.set()
        self.join()
        return {kind: self.highest[kind] - self.before[kind] for kind in self.before}


def used_megabytes():
    """Return the memory of this process and its descendants: "extra" and "mapped" pages."""
    kinds = {"Pss_Anon": "extra", "Pss_Shmem": "extra", "Pss_File": "mapped"}
    used = {"extra": 0.0, "mapped": 0.0}
    for pid in processes_below(os.getpid()):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):  # the process has just ended
            continue
        for line in rollup.splitlines()[1:]:
            name, size = line.split()[:2]
            kind = kinds.get(name.rstrip(":"))
            if kind:
                used[kind] += int(size) * 1024 / MEGABYTE
    return used


def processes_below(root):
    """Return the process `root` and its descendants."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children[int(fields[1])].append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def measure(name, path):
    """Return seconds and megabytes of one search, in a process that has done nothing else."""
    load, estimator, grid = SEARCHES[name]
    X = load(path)
    y = np.arange(len(X)) % N_CLASSES
    search = GridSearchCV(estimator, grid, cv=N_FOLDS)
    memory = MemoryOfProcesses()
    memory.start()
    marks = [time.perf_counter()]
    with joblib.parallel_config("loky", n_jobs=N_PROCESSES):
        for n_sequences in (60, len(X)):
            search.fit(X[:n_sequences], y[:n_sequences])
            marks.append(time.perf_counter())
    start, seconds = np.diff(marks)
    return {"start": start, "seconds": seconds, **memory.end(), "score": search.best_score_}


def write_frames(path, n_sequences):
    """Write random frames, with a different mean for each class."""
    rng = np.random.default_rng(0)
    shape = (n_sequences * CASE.n_frames, CASE.n_features)
    frames = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    means = 0.1 * rng.standard_normal((N_CLASSES, CASE.n_features), dtype=np.float32)
    for i, rows in enumerate(frames.reshape(n_sequences, CASE.n_frames, -1)):
        rows[:] = means[i % N_CLASSES] + rng.standard_normal(rows.shape, dtype=np.float32)
    frames.flush()


def results(n_sequences=2500):
    """Return the measurements of each search."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.npy"
        write_frames(path, n_sequences)
        command = [sys.executable, __file__, "--file", str(path), "--search"]
        return {name: json.loads(subprocess.check_output([*command, name])) for name in SEARCHES}


def main():
    """Print the results, and write them as JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=2500)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--search", choices=SEARCHES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search:
        print(json.dumps(measure(arguments.search, arguments.file)))
        return
    measured = results(arguments.sequences)
    print(f"{'':30}{'start s':>9}{'seconds':>9}{'extra MB':>10}{'mapped MB':>11}{'accuracy':>10}")
    for name, of in measured.items():
        print(
            f"{name:30}{of['start']:9.1f}{of['seconds']:9.1f}{of['extra']:10.0f}"
            f"{of['mapped']:11.0f}{of['score']:10.3f}"
        )
    in_list, in_map = (measured[f"nearest mean, {of}"] for of in ("list of arrays", "TSEArray"))
    ratio = in_list["seconds"] / in_map["seconds"]
    with_start = sum(in_list[s] for s in STAGES) / sum(in_map[s] for s in STAGES)
    print(f"the list takes {ratio:.1f} times as long, with the start {with_start:.1f} times")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
