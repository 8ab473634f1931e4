"""The baseline without order: logistic regression on each sequence's mean over time.

    python benchmarks/bench_average.py STORE --labels labels.csv --train split=train \
        --test split=test

Prints the accuracy on the test rows of the table. ``skdejavid fit`` and ``skdejavid evaluate`` with
``--where`` give that of DejaVidClassifier on the same rows.
"""

import argparse
import json

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import TSEStore
from skdejavid.video.listing import read_labels


def load(store, table, where):
    """Return means over time (n_sequences, n_features) and labels of the rows with a value."""
    label_of = read_labels(table, [tuple(where.split("=", 1))])
    means = [sequence.mean(axis=0) for sequence in store.sequences(list(label_of))]
    return np.stack(means), list(label_of.values())


def accuracy(train, test):
    """Fit to one pair (means, labels) and return the accuracy on another."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    return model.fit(*train).score(*test)


def main():
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store")
    parser.add_argument("--labels", required=True, help="CSV file with the columns path and label")
    parser.add_argument("--train", required=True, metavar="COLUMN=VALUE")
    parser.add_argument("--test", required=True, metavar="COLUMN=VALUE")
    arguments = parser.parse_args()
    store = TSEStore(arguments.store)
    parts = [load(store, arguments.labels, where) for where in (arguments.train, arguments.test)]
    print(json.dumps({"sequences": len(parts[1][1]), "top-1 accuracy": accuracy(*parts)}))


if __name__ == "__main__":
    main()
