"""
From a CSV file with missing values to the sensors that matter
==============================================================

Measurements often come as one *long table*: a row per moment, a column per sensor, and
a column that says to which recording a row belongs. This example reads such a table
with pandas, fills in its gaps, classifies the recordings, and measures how much the
classifier relies on each sensor.

To run it, ``pip install "skdejavid[plot]" pandas``.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import DejaVidClassifier, Framewise, Interpolate, TSEArray
from skdejavid.inspection import permutation_importance

# sphinx_gallery_thumbnail_number = 2

# %%
# A table of recordings
# ---------------------
#
# The data are made up: a machine repeats a cycle that lasts 4 to 8 seconds. In a good
# cycle the pressure rises for a moment and then the valve opens for a moment; in a bad
# one the valve opens first. Both kinds have the same pressures and openings, in another
# order. The temperature drifts and says nothing about the class.


def one_cycle(number, rng):
    """Return the rows of one cycle, five per second."""
    n_frames = rng.integers(20, 41)
    progress = np.linspace(0, 1, n_frames)
    first = rng.uniform(0.05, 0.4)
    begins = [first, first + rng.uniform(0.2, 0.4)]
    is_good = number % 2 == 0
    rise, opening = begins if is_good else begins[::-1]
    is_raised = (progress > rise) & (progress < rise + 0.15)
    is_open = (progress > opening) & (progress < opening + 0.15)
    return pd.DataFrame(
        {
            "cycle": f"c{number:03}",
            "seconds": np.arange(n_frames) / 5,
            "pressure_kPa": abs(150 + 300 * is_raised + rng.normal(0, 120, n_frames)),
            "valve_percent": abs(80 * is_open + rng.normal(0, 40, n_frames)),
            "temperature_C": rng.normal(60, 5) + rng.normal(0, 1, n_frames).cumsum(),
            "result": "good" if is_good else "bad",
        }
    )


rng = np.random.default_rng(0)
table = pd.concat([one_cycle(number, rng) for number in range(200)])
sensors = ["pressure_kPa", "valve_percent", "temperature_C"]

# %%
# Real sensors fail now and then. A tenth of the numbers is removed, and in every fifth
# cycle a second of pressure. Then the table is written to a file, with its rows in
# random order as after a merge of several loggers.

table[sensors] = table[sensors].mask(rng.random((len(table), 3)) < 0.1)
in_gap = table["seconds"].between(1, 2) & table["cycle"].str.endswith(("0", "5"))
table.loc[in_gap, "pressure_kPa"] = np.nan

folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "cycles.csv")
table.sample(frac=1, random_state=0).to_csv(path, index=False, float_format="%.1f")

# %%
# Read it
# -------
#
# ``TSEArray.from_long`` sorts the rows of each cycle by time and returns one sequence
# per cycle, with the labels. Columns that are not listed as features are left out, and
# the features keep the names of their columns.

table = pd.read_csv(path)
print(table.head().to_string(index=False))

X, y = TSEArray.from_long(table, id="cycle", time="seconds", features=sensors, label="result")
print(X)
print(pd.Series(y).value_counts().to_dict())
print(f"missing: {table[sensors].isna().mean().mean():.0%} of all numbers")

# %%
# The picture shows one good and one bad cycle, with the gaps.

figure, axes = plt.subplots(
    len(sensors), 2, figsize=(9, 5), sharex="col", sharey="row", layout="constrained"
)
for column, label in zip(axes.T, ["good", "bad"], strict=True):
    x = X[int(np.flatnonzero(y == label)[0])]
    for ax, sensor, values in zip(column, sensors, x.T, strict=True):
        ax.plot(np.arange(len(values)) / 5, values, marker=".")
        ax.set_ylabel(sensor.replace("_", "\n"))
    column[0].set_title(f"a {label} cycle")
    column[-1].set_xlabel("time (s)")
plt.show()

# %%
# Fill in the gaps, and classify
# ------------------------------
#
# The classifier refuses missing values and says where the first one is:

try:
    DejaVidClassifier().fit(X, y)
except ValueError as error:
    print(error)

# %%
# ``Interpolate`` draws a straight line between the values before and after a gap.
# ``Framewise(SimpleImputer())`` writes the mean of the sensor into it, without looking
# at the neighbors. Both are steps of a pipeline, so cross-validation fits them to the
# training folds only. The number after ± is the standard error over the five folds, by
# which the two cannot be told apart here. The rest of the example takes ``Interpolate``,
# which fills a gap from the same cycle.

X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
for name, fill in {
    "Interpolate()": Interpolate(),
    "Framewise(SimpleImputer())": Framewise(SimpleImputer()),
}.items():
    model = make_pipeline(fill, DejaVidClassifier(random_state=0))
    scores = cross_val_score(model, X_train, y_train, cv=5)
    error = scores.std(ddof=1) / np.sqrt(len(scores))
    print(f"{name:27} {scores.mean():.3f} ± {error:.3f}")

# %%
# The averages of a cycle contain nothing about the order, so a linear model of them is
# no better than guessing (0.5). The classifier of sequences learns from all training
# cycles now, a quarter more than in cross-validation.


def averages(X):
    return np.stack([np.nanmean(x, axis=0) for x in X])


baseline = make_pipeline(StandardScaler(), LogisticRegression())
baseline.fit(averages(X_train), y_train)
print(f"averages, test accuracy:   {baseline.score(averages(X_test), y_test):.3f}")

model = make_pipeline(Interpolate(), DejaVidClassifier(random_state=0))
model.fit(X_train, y_train)
print(f"sequences, test accuracy:  {model.score(X_test, y_test):.3f}")

# %%
# Which sensors matter?
# ---------------------
#
# ``permutation_importance`` gives each test cycle the values of one sensor from another
# cycle, and measures how much the accuracy drops. The whole pipeline is measured, with
# its gaps.

result = permutation_importance(model, X_test, y_test, n_repeats=20, random_state=0)
order = result.importances_mean.argsort()
for i in order[::-1]:
    print(f"{result.names[i]:15} {result.importances_mean[i]:.3f}")

figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.boxplot(result.importances[order].T, orientation="horizontal", tick_labels=result.names[order])
ax.axvline(0, color="gray", linestyle="--")
ax.set(xlabel="drop of the test accuracy", title="importance of the sensors, 20 permutations")
plt.show()

# %%
# The classifier needs both the pressure and the valve, because the class is their order.
# The temperature does not matter to it. An importance can be slightly negative by chance.
# Of two sensors that measure the same, each would appear unimportant, because the other
# one is still there: put them into one of the ``groups``.

folder.cleanup()
