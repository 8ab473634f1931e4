"""Measure the time to import the package, as a ratio to importing scikit-learn.

Each import happens in a fresh interpreter, alternating; the medians are compared.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time


def seconds_of(statement):
    """Return the wall time of an interpreter that runs one statement."""
    begin = time.perf_counter()
    # -P: import the installed package, not the folder that this runs in.
    subprocess.run([sys.executable, "-P", "-c", statement], check=True)
    return time.perf_counter() - begin


def main(n_rounds):
    """Measure, print and return the medians in seconds and their ratio."""
    statements = ["pass", "import sklearn", "import skdejavid"]
    for statement in statements:  # warm the file cache
        seconds_of(statement)
    rounds = [[seconds_of(statement) for statement in statements] for _ in range(n_rounds)]
    empty, sklearn, skdejavid = map(statistics.median, zip(*rounds, strict=True))
    result = {
        "import sklearn": round(sklearn - empty, 3),
        "import skdejavid": round(skdejavid - empty, 3),
        "ratio": round((skdejavid - empty) / (sklearn - empty), 3),
    }
    print(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    main(parser.parse_args().rounds)
