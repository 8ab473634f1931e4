"""Measure the CUDA backend: epochs of training, kernels, and the crossover with the CPU.

python benchmarks/bench_gpu.py
"""

import argparse
import json
import math
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from skdejavid import TSEArray, dtw_distances
from skdejavid.backends import cuda_engine
from skdejavid.backends.cuda_frames import ResidentFrames
from skdejavid.backends.cuda_problem import CudaTensorProblem, adam_step
from skdejavid.backends.registry import backend_of
from skdejavid.backends.state import InitialParameters, TrainingData, TrainingSettings
from skdejavid.training.loop import Training
from skdejavid.training.loss import SoftMinCrossEntropy

BATCH_SIZE = 48
N_TIMESTEPS = 8


@dataclass(frozen=True)
class Case:
    """A data set of the paper, and the authors' time for an epoch on eight H100."""

    n_classes: int
    n_features: int
    n_frames: int
    n_sequences: int  # of the whole set
    n_generated: int  # of those measured here
    paper_seconds: float
    goal_seconds: float


CASES = {
    "Kinetics-400": Case(400, 1808, 33, 240_436, 20_000, 156.0, 8.0),
    "Something-Something V2": Case(174, 6328, 40, 168_913, 20_000, 297.0, 25.0),
    "HMDB51": Case(51, 1459, 33, 3_570, 3_570, 1.01, 0.25),
}


def generate(case, n_sequences):
    """Generate sequences; most are repeated, because their values do not influence the time."""
    rng = np.random.default_rng(0)
    n_different = min(n_sequences, 500)
    block = rng.standard_normal((n_different * case.n_frames, case.n_features), dtype=np.float32)
    values = np.resize(block, (n_sequences * case.n_frames, case.n_features))
    offsets = np.arange(n_sequences + 1) * case.n_frames
    labels = rng.permutation(np.arange(n_sequences) % case.n_classes)
    return TrainingData(TSEArray.from_packed(values, offsets), labels, np.ones(n_sequences))


def settings_of(path_refresh, *, half_storage, n_epochs):
    """Return the paper's settings for the first CUDA device."""
    return TrainingSettings(
        loss=SoftMinCrossEntropy("sample"),
        learn_weights=True,
        learn_centroids=True,
        diagonal=False,
        path_refresh=path_refresh,
        learning_rate=0.001,
        centroid_learning_rate=0.0003,
        batch_size=BATCH_SIZE,
        n_epochs=n_epochs,
        n_threads=1,
        device="cuda:0",
        half_storage=half_storage,
    )


def would_fit(case, device, itemsize):
    """Return whether the whole data set would be resident; its part is then measured like that."""
    n_bytes = case.n_sequences * case.n_frames * case.n_features * itemsize
    return n_bytes + cuda_engine._KEPT_FREE_BYTES <= device.free_bytes()


class Clock:
    """Observer that notes when each epoch ended."""

    def __init__(self):
        self.ends = []

    def on_epoch_begin(self):
        pass

    def on_epoch_end(self, record, training):
        self.ends.append(time.perf_counter())


def epochs(case, data, *, half_storage, n_epochs=3):
    """Measure an epoch: the fastest but the first, scaled to the size of the whole data set."""
    device = backend_of("cuda").open("cuda:0")
    is_resident = would_fit(case, device, 2 if half_storage else 4)
    kept_free = cuda_engine._KEPT_FREE_BYTES
    if not is_resident:
        cuda_engine._KEPT_FREE_BYTES = 2**62  # the part has to be streamed, too
    measured = {"sequences": "resident" if is_resident else "streamed from the host"}
    try:
        for path_refresh in ("epoch", "batch"):
            rng = np.random.default_rng(1)
            shape = case.n_classes, N_TIMESTEPS, case.n_features
            initial = InitialParameters(
                rng.standard_normal(shape, dtype=np.float32),
                np.zeros(shape, np.float32),
                np.ones(case.n_features, np.float32),
            )
            clock = Clock()
            settings = settings_of(path_refresh, half_storage=half_storage, n_epochs=n_epochs)
            Training(data, initial, settings, np.random.RandomState(0)).learn([clock])
            seconds = min(np.diff(clock.ends)) * case.n_sequences / len(data.targets)
            measured[f"epoch, path_refresh={path_refresh!r}, seconds"] = float(seconds)
            torch.cuda.empty_cache()
    finally:
        cuda_engine._KEPT_FREE_BYTES = kept_free
    measured["paper on eight H100, seconds"] = case.paper_seconds
    measured["goal, seconds"] = case.goal_seconds
    return measured


def seconds_of(call, n_calls=20):
    """Measure one call on the device: the median of `n_calls`."""
    taken = []
    for _ in range(n_calls + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end) / 1e3)
    return float(np.median(taken[3:]))


def issue_limit():
    """Return the single-precision instructions per second that all lanes of the device issue."""
    properties = torch.cuda.get_device_properties(0)
    lanes = 64 if (properties.major, properties.minor) in ((7, 0), (7, 5), (8, 0)) else 128
    query = ["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits", "-i", "0"]
    megahertz = float(subprocess.check_output(query, text=True).split()[0])
    return properties.multi_processor_count * lanes * megahertz * 1e6


def kernels(case, *, half_storage):
    """Measure each kernel for one batch, in seconds and as a fraction of the issue limit.

    A weighted difference counts as two instructions, and as three in the gradient.
    """
    device = backend_of("cuda").open("cuda:0")
    data = generate(case, BATCH_SIZE)
    dtype = torch.float16 if half_storage else torch.float32
    (frames,) = ResidentFrames(device, data.sequences.view(), dtype).iter_batches(
        [np.arange(BATCH_SIZE)]
    )
    shape = case.n_classes, N_TIMESTEPS, case.n_features
    rng = np.random.default_rng(1)
    centroids = device.to_padded_rows(rng.standard_normal(shape, dtype=np.float32))
    weights = device.to_padded_rows(rng.exponential(size=shape).astype(np.float32))
    problem = CudaTensorProblem(device, frames, centroids, weights, case.n_features)
    _, runs = problem.paths(False)
    grad = torch.ones((BATCH_SIZE, case.n_classes), dtype=torch.float64, device=device.torch_device)
    gradients = torch.zeros_like(centroids), torch.zeros_like(centroids)
    moments = torch.zeros_like(centroids), torch.zeros_like(centroids)
    n_pairs = BATCH_SIZE * case.n_classes
    n_differences = n_pairs * N_TIMESTEPS * case.n_frames * case.n_features
    n_along = n_pairs * (N_TIMESTEPS + case.n_frames - 1) * case.n_features
    limit = issue_limit()
    measured = {}
    for name, call, n_instructions in (
        ("paths", lambda: problem.paths(False), 2 * n_differences),
        ("along", lambda: problem.distances_along(runs), 2 * n_along),
        (
            "gradient",
            lambda: problem.parameter_gradients(runs, grad, gradients),
            3 * n_along,
        ),
    ):
        seconds = seconds_of(call)
        measured[name] = {"seconds": seconds, "of issue limit": n_instructions / seconds / limit}

    def step():
        adam_step(device, centroids, gradients[0], moments, None, case.n_features, 1e-9, 1)

    seconds = seconds_of(step)
    n_bytes = 7 * centroids.numel() * centroids.element_size()
    measured["adam"] = {"seconds": seconds, "bytes per second": n_bytes / seconds}
    return measured


def crossover():
    """Measure both devices on problems of growing size, and from which size CUDA is faster."""
    rows = []
    for n_sequences in (1, 4, 16, 64, 256, 1024):
        case = Case(10, 64, 33, n_sequences, n_sequences, math.nan, math.nan)
        X = generate(case, n_sequences).sequences
        centroids = np.ones((case.n_classes, N_TIMESTEPS, case.n_features), np.float32)
        taken = {}
        for device in ("cpu", "cuda"):
            calls = []
            for _ in range(7):
                begin = time.perf_counter()
                dtw_distances(X, centroids, device=device)
                calls.append(time.perf_counter() - begin)
            taken[device] = float(np.median(calls))
        n_differences = X.total_frames * centroids.size
        rows.append({"weighted differences": n_differences, **taken})
    faster = [row["weighted differences"] for row in rows if row["cuda"] < row["cpu"]]
    slower = [row["weighted differences"] for row in rows if row["cuda"] >= row["cpu"]]
    always = [n for n in faster if n > max(slower, default=0)]
    return {"rows": rows, "CUDA is faster from": min(always, default=None)}


def card():
    """Return the names and versions of the device, its driver and torch."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "-i", "0"]
    name, driver = subprocess.check_output(query, text=True).strip().split(", ")
    return {
        "card": name,
        "driver": driver,
        "torch": torch.__version__,
        "CUDA of torch": torch.version.cuda,
        "issue limit": issue_limit(),
    }


def results(names=tuple(CASES)):
    """Yield the record for `results/gpu/` after each measurement, with all results up to then."""
    record = {**card(), "crossover": crossover()}
    yield record
    for name in names:
        case = CASES[name]
        data = generate(case, case.n_generated)
        record[name] = {}
        for storage, half in (("float32", False), ("half storage", True)):
            record[name][storage] = {"kernels": kernels(case, half_storage=half)}
            yield record
            record[name][storage]["epochs"] = epochs(case, data, half_storage=half)
            torch.cuda.empty_cache()
            yield record
        del data


def main():
    """Measure everything; print the results, and write them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="only this data set")
    parser.add_argument("--json", type=Path, help="file to write after each measurement")
    arguments = parser.parse_args()
    for record in results(arguments.case or tuple(CASES)):
        if arguments.json:
            arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
