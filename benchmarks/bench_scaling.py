"""Measure how time grows with each size: the exponents should be 1.

python benchmarks/bench_scaling.py
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from cases import Case
from rounds import seconds_of

from skdejavid import _core

BASE = {"n_sequences": 24, "n_frames": 24, "n_timesteps": 8, "n_centroids": 16, "n_features": 256}
FACTORS = (1, 2, 4, 8, 16)


def call_of(sizes):
    """Return a function that computes paths, and distances and gradients along them."""
    sizes = dict(sizes)
    n_sequences = sizes.pop("n_sequences")
    problem = _core.ProblemFloat32(*Case(**sizes).draw(n_sequences), 1)
    pairs = np.ones((n_sequences, sizes["n_centroids"]))

    def call():
        _, runs = problem.paths(False)
        problem.distances_along(runs)
        problem.parameter_gradients(runs, pairs)

    return call


def exponent(size, n_rounds):
    """Return the slope of log(time) over log(size), with sizes measured in turns."""
    calls = [call_of(BASE | {size: factor * BASE[size]}) for factor in FACTORS]
    rounds = [[seconds_of(call) for call in calls] for _ in range(n_rounds + 1)][1:]
    seconds = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return float(np.polyfit(np.log(FACTORS), np.log(seconds), 1)[0])


def results(n_rounds=9):
    """Return the fitted exponent of each size over a factor of 16."""
    return {size: exponent(size, n_rounds) for size in BASE}


def main():
    """Print the results, and write them as JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    measured = results(arguments.rounds)
    for size, value in measured.items():
        print(f"{size:16}{value:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
