"""Compare the time of other packages for the same distances, one thread, at the size of HMDB51.

python benchmarks/bench_peers.py
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from aeon.distances import dtw_distance
from cases import CASES
from rounds import in_turns, medians
from tslearn.metrics import cdist_dtw

from skdejavid import _core

CASE = CASES["HMDB51"]


def calls_of(n_sequences):
    """Return the same work for each package; torch computes only the weighted cost."""
    values, starts, lengths, centroids, weights = CASE.draw(n_sequences)
    sequences = values.reshape(n_sequences, CASE.n_frames, CASE.n_features)
    problem = _core.ProblemFloat32(values, starts, lengths, centroids, weights, 1)
    tensors = [torch.from_numpy(array) for array in (sequences, centroids, weights)]
    channels_first = [np.ascontiguousarray(a.swapaxes(1, 2)) for a in (sequences, centroids)]

    def torch_expression():
        for x in tensors[0]:
            difference = tensors[1][:, :, None] - x
            (tensors[2][:, :, None] * difference.abs()).sum(dim=-1)

    def aeon():
        for x in channels_first[0]:
            for centroid in channels_first[1]:
                dtw_distance(x, centroid)

    return {
        "skdejavid": lambda: problem.distances(False),
        "torch expression": torch_expression,
        "aeon dtw_distance": aeon,
        "tslearn cdist_dtw": lambda: cdist_dtw(sequences, centroids, n_jobs=1),
    }


def results(n_sequences=4, n_rounds=15):
    """Return the time of each package as a multiple of ours."""
    torch.set_num_threads(1)
    calls = calls_of(n_sequences)
    for call in calls.values():
        call()  # some compile at the first call
    taken = medians(in_turns(calls, n_rounds))
    ours = taken.pop("skdejavid")
    return {name: theirs / ours for name, theirs in taken.items()}


def main():
    """Print the results, and write them as JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    measured = results(arguments.sequences, arguments.rounds)
    for name, ratio in measured.items():
        print(f"{name:24}{ratio:.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
