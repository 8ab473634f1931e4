"""Speed of the CUDA backend on the card at hand: epochs of training, kernels, the crossover.

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
from skdejavid.backends.cuda_device import open_device
from skdejavid.backends.cuda_frames import ResidentFrames
from skdejavid.backends.cuda_problem import CudaTensorProblem, adam_step
from skdejavid.backends.protocol import InitialParameters, TrainingData, TrainingSettings
from skdejavid.training.loop import Training
from skdejavid.training.loss import SoftMinCrossEntropy

BATCH_SIZE = 48
N_TIMESTEPS = 8


@dataclass(frozen=True)
class Case:
    """A data set of the paper, and what its authors needed for an epoch on eight H100."""

    n_classes: int
    n_features: int
    n_frames: int
    n_sequences: int  # of the whole set
    n_generated: int  # here
    paper_seconds: float
    goal_seconds: float


CASES = {
    "Kinetics-400": Case(400, 1808, 33, 240_436, 20_000, 156.0, 8.0),
    "Something-Something V2": Case(174, 6328, 40, 168_913, 20_000, 297.0, 25.0),
    "HMDB51": Case(51, 1459, 33, 3_570, 3_570, 1.01, 0.25),
}


def generate(case, n_sequences):
    """Sequences, some of them equal: what they hold does not matter to how long it takes."""
    rng = np.random.default_rng(0)
    n_different = min(n_sequences, 500)
    block = rng.standard_normal((n_different * case.n_frames, case.n_features), dtype=np.float32)
    values = np.resize(block, (n_sequences * case.n_frames, case.n_features))
    offsets = np.arange(n_sequences + 1) * case.n_frames
    labels = rng.permutation(np.arange(n_sequences) % case.n_classes)
    return TrainingData(TSEArray.from_packed(values, offsets), labels, np.ones(n_sequences))


def settings_of(path_refresh, *, half_storage, n_epochs):
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
    """Whether the whole set could stay on the card, which decides how a part of it is measured."""
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
    """Seconds of an epoch of the whole set: the fastest but the first, scaled by its size."""
    device = open_device("cuda:0")
    stays = would_fit(case, device, 2 if half_storage else 4)
    kept_free = cuda_engine._KEPT_FREE_BYTES
    if not stays:
        cuda_engine._KEPT_FREE_BYTES = 2**62  # as it would be for all of them
    measured = {"sequences": "stay on the card" if stays else "stream from the host"}
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
    """Of one call on the device: the median of some."""
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
    """Single-precision instructions per second that the card can issue, of all lanes."""
    properties = torch.cuda.get_device_properties(0)
    lanes = 64 if (properties.major, properties.minor) in ((7, 0), (7, 5), (8, 0)) else 128
    query = ["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits", "-i", "0"]
    megahertz = float(subprocess.check_output(query, text=True).split()[0])
    return properties.multi_processor_count * lanes * megahertz * 1e6


def kernels(case, *, half_storage):
    """Seconds of each kernel for one batch, and the fraction of the limit of issue they reach.

    Two instructions for a weighted difference, three for one in the gradient.
    """
    device = open_device("cuda:0")
    data = generate(case, BATCH_SIZE)
    dtype = torch.float16 if half_storage else torch.float32
    (frames,) = ResidentFrames(device, data.sequences.view(), dtype).load([np.arange(BATCH_SIZE)])
    shape = case.n_classes, N_TIMESTEPS, case.n_features
    rng = np.random.default_rng(1)
    centroids = device.to_padded_rows(rng.standard_normal(shape, dtype=np.float32))
    weights = device.to_padded_rows(rng.exponential(size=shape).astype(np.float32))
    problem = CudaTensorProblem(device, frames, centroids, weights, case.n_features)
    _, runs = problem.paths(False)
    grad = torch.ones((BATCH_SIZE, case.n_classes), dtype=torch.float64, device=device.torch_device)
    gradients = problem.parameter_gradients(runs, grad)
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
    """Times of both devices over problems of growing size, and where the card begins to win."""
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
    won = [row["weighted differences"] for row in rows if row["cuda"] < row["cpu"]]
    lost = [row["weighted differences"] for row in rows if row["cuda"] >= row["cpu"]]
    always = [n for n in won if n > max(lost, default=0)]
    return {"rows": rows, "the card wins from": min(always, default=None)}


def card():
    """What was measured on."""
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
    """Everything, as it is written to `results/gpu/`: once more after each part of it."""
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
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="only this data set")
    parser.add_argument("--json", type=Path, help="written to after each part")
    arguments = parser.parse_args()
    for record in results(arguments.case or tuple(CASES)):
        if arguments.json:
            arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
