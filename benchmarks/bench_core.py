"""Measure the native core as a fraction of the machine's peak.

python benchmarks/bench_core.py
SKDEJAVID_INSTRUCTION_SET=avx2 python benchmarks/bench_core.py --case HMDB51
"""

import argparse
import json
from pathlib import Path

import numpy as np
from cases import CASES
from peak import measure_peak
from rounds import in_turns, medians

from skdejavid import _core


def measure(case, n_rounds):
    """Return each call's fraction of the peak of one thread, and the speedup by a second one."""
    n_sequences = max(12, min(2000, round(1e9 / case.n_elements)))
    arrays = case.draw(n_sequences)
    one, two = (_core.ProblemFloat32(*arrays, n_threads) for n_threads in (1, 2))
    _, runs = one.paths(False)
    grad_distances = np.ones(runs.shape[:2])
    gradients = one.parameter_gradients(runs, grad_distances)
    calls = {
        "distances": lambda: one.distances(False),
        "paths": lambda: one.paths(False),
        "two threads": lambda: two.paths(False),
        "along": lambda: one.distances_along(runs),
        "gradient": lambda: one.parameter_gradients(runs, grad_distances, out=gradients),
    }
    taken = medians(in_turns(calls, n_rounds))
    elements, along = (n_sequences * n for n in (case.n_elements, case.n_elements_along))
    return {
        "distances": elements / taken["distances"],
        "paths": elements / taken["paths"],
        "along": along / taken["along"],
        "gradient": along / taken["gradient"],
        "two threads": taken["paths"] / taken["two threads"],
    }


def results(names=CASES, n_rounds=25):
    """Measure all cases; return their results by name."""
    return {name: measure(CASES[name], n_rounds) for name in names}


def main():
    """Print a table of all results, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    measured = results(arguments.case or CASES, arguments.rounds)
    record = {
        "instruction_set": _core.cpu_instruction_set,
        "peak": measure_peak(),
        "ratios": measured,
    }
    print(f"{record['instruction_set']}: {record['peak']:.3g} elements/s at the peak of one thread")
    for name, ratios in measured.items():
        print(f"{name:24}" + "  ".join(f"{key} {value:.3f}" for key, value in ratios.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
