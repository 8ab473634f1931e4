"""Speed of the native core as a ratio to the machine's limit, measured in turns in one run.

python benchmarks/bench_core.py
SKDEJAVID_INSTRUCTION_SET=avx2 python benchmarks/bench_core.py --case HMDB51
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from cases import CASES
from peak import measure_peak

from skdejavid import _core


def rate(call, n_elements):
    """Elements per second of one call."""
    begin = time.perf_counter()
    call()
    return n_elements / (time.perf_counter() - begin)


def measure(case, n_sequences, n_rounds):
    """Medians over the rounds: elements per second at the limit and of one thread, and ratios."""
    arrays = case.draw(n_sequences)
    one, two = (_core.ProblemFloat32(*arrays, n_threads) for n_threads in (1, 2))
    _, runs = one.paths(False)
    grad_distances = np.ones(runs.shape[:2])
    whole, along = (n_sequences * n for n in (case.n_elements, case.n_elements_along))
    calls = {
        "distances": (whole, lambda: one.distances(False)),
        "paths": (whole, lambda: one.paths(False)),
        "paths, 2 threads": (whole, lambda: two.paths(False)),
        "along": (along, lambda: one.distances_along(runs)),
        "gradient": (along, lambda: one.parameter_gradients(runs, grad_distances)),
    }
    rounds = []
    for _ in range(n_rounds):
        peak = measure_peak()
        rates = {name: rate(call, n) for name, (n, call) in calls.items()}
        peak = (peak + measure_peak()) / 2
        rounds.append({"peak": peak, **{name: r / peak for name, r in rates.items()}})
    return {name: statistics.median(entry[name] for entry in rounds) for name in rounds[0]}


def main():
    """Print a table and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    print(f"instruction set {_core.cpu_instruction_set}; ratios to the peak of one thread")
    for name in arguments.case or CASES:
        case = CASES[name]
        n_sequences = max(1, round(3e8 / case.n_elements))
        results[name] = measure(case, min(n_sequences, 2000), arguments.rounds)
        ratios = "  ".join(f"{key} {value:.3f}" for key, value in results[name].items())
        print(f"{name:24} {ratios.replace('peak', 'elements/s')}")
    if arguments.json:
        record = {"instruction_set": _core.cpu_instruction_set, "medians": results}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
