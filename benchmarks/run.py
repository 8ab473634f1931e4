"""Run all benchmarks of the core; print one table and write a JSON file.

python benchmarks/run.py
"""

import json
import platform
from pathlib import Path

import bench_core
import bench_fit
import bench_peers
import bench_scaling
from peak import measure_peak

from skdejavid import _core

TARGET = Path(__file__).parent / "results" / "core" / f"{_core.cpu_instruction_set}.json"


def table_of(record):
    """Yield the rows of a Markdown table: name and value of each measurement."""
    for case, ratios in record["ratios to the peak"].items():
        yield f"{case}: distances and paths, one thread", f"{ratios['paths']:.2f} of peak"
        yield f"{case}: two threads", f"{ratios['two threads']:.2f} times one"
        yield f"{case}: value along paths", f"{ratios['along']:.2f} of peak"
        yield f"{case}: gradient along paths", f"{ratios['gradient']:.2f} of peak"
    for peer, ratio in record["times longer than ours"].items():
        yield f"{peer}, HMDB51, one thread", f"{ratio:.1f} times our time"
    for size, exponent in record["scaling exponents"].items():
        yield f"time grows with {size}", f"to the power {exponent:.2f}"
    fit = record["fit"]
    for path_refresh, epoch in fit["HMDB51 epoch over its elements, by path_refresh"].items():
        what = f'training epoch, HMDB51, path_refresh="{path_refresh}", one thread'
        yield what, f"{epoch:.2f} times its elements at peak"
    parts = fit["JapaneseVowels fit"]
    yield "whole fit, JapaneseVowels, one thread", f"{parts['seconds']:.2f} s"
    step = parts["step over its native work"]
    yield "an optimizer step of it", f"{step:.2f} times its native work"
    memory = fit["Kinetics-400 fit, megabytes"]
    yield (
        "memory of fit, Kinetics-400, 500 sequences",
        f"data + {memory['parameter-sized arrays beyond 100 MB']:.1f} parameter arrays + 100 MB",
    )


def main():
    """Measure everything, write the file and print the table."""
    record = {
        "instruction_set": _core.cpu_instruction_set,
        "machine": platform.machine(),
        "peak": measure_peak(),
        "ratios to the peak": bench_core.results(),
        "times longer than ours": bench_peers.results(),
        "scaling exponents": bench_scaling.results(),
        "fit": bench_fit.results(),
    }
    TARGET.write_text(json.dumps(record, indent=2) + "\n")
    rows = list(table_of(record))
    width = max(len(what) for what, _ in rows)
    print(f"{record['instruction_set']}, peak of one thread {record['peak']:.3g} elements/s\n")
    for what, how_much in rows:
        print(f"| {what:{width}} | {how_much} |")
    print(f"\n{TARGET}")


if __name__ == "__main__":
    main()
