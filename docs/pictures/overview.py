"""Draws the picture of the method on the first page: `python docs/pictures/overview.py FILE`.

One sequence is aligned with the centroids of three classes, which differ in nothing but the order
of their events. Everything is what a fitted classifier computes.
"""

import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import ConnectionPatch, Rectangle

from skdejavid import DejaVidClassifier, dtw_distances, dtw_path
from skdejavid.datasets import make_order_sequences

CLASSES = {0: "red, green, blue", 3: "green, blue, red", 5: "blue, green, red"}
COLORS = np.array([[0.80, 0.20, 0.22], [0.13, 0.55, 0.35], [0.16, 0.38, 0.75]])
INK, MUTED, WINNER = "#1d2730", "#6b7680", "#c8641b"


def fitted_classifier():
    """Return a classifier of the orders, without differences so that all of it can be drawn."""
    X, y = make_order_sequences(240, n_features=3, noise=0.15, random_state=0)
    chosen = np.isin(y, list(CLASSES))
    return DejaVidClassifier(differences=None, n_timesteps=10, random_state=0).fit(
        X[chosen], y[chosen]
    )


def colored(values):
    """Return an image (features, frames) in which each feature has its color."""
    shares = np.clip(values.T, 0, 1)[..., None]
    return 1 - shares * (1 - COLORS[:, None, :])


def draw_image(axes, image, **options):
    """Draw features as rows and frames or time steps as columns."""
    axes.imshow(image, aspect="auto", interpolation="nearest", **options)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(MUTED)


def draw_path(upper, lower, path):
    """Connect each frame with the time step that it is matched to."""
    for step, frame in path:
        line = ConnectionPatch(
            (frame, 2.5),
            (step, -0.5),
            "data",
            "data",
            axesA=upper,
            axesB=lower,
            color=MUTED,
            lw=0.9,
        )
        upper.figure.add_artist(line)


def draw_bar(axes, distance, longest, is_winner):
    """Draw the distance to a class."""
    color = WINNER if is_winner else "#b8c0c6"
    axes.add_patch(Rectangle((0, 0.45), 0.72 * distance / longest, 0.5, color=color))
    axes.text(0.72 * distance / longest + 0.02, 0.7, f"{distance:.0f}", color=INK, va="center")
    if is_winner:
        axes.text(0, 0.32, "smallest distance: this class", color=WINNER, va="top", weight="bold")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")


def draw(classifier, x):
    """Return the figure of one sequence and of all classes."""
    centroids, weights = classifier.centroids_, np.exp(classifier.log_weights_)
    distances = dtw_distances([x], centroids, weights)[0]
    figure = plt.figure(figsize=(8.2, 3.9), facecolor="white")
    grid = figure.add_gridspec(
        5,
        len(CLASSES),
        height_ratios=[0.8, 0.9, 0.8, 0.5, 0.95],
        left=0.225,
        right=0.985,
        top=0.9,
        bottom=-0.02,
        wspace=0.1,
        hspace=0.16,
    )
    for column, label in enumerate(classifier.classes_):
        sequence, centroid, weight, bar = (
            figure.add_subplot(grid[row, column]) for row in (0, 2, 3, 4)
        )
        draw_image(sequence, colored(x))
        draw_image(centroid, colored(centroids[column]))
        draw_image(weight, weights[column].T, cmap="Greys", vmin=0, vmax=weights.max())
        path = dtw_path(x, centroids[column], weights[column])
        draw_path(sequence, centroid, path)
        draw_bar(bar, distances[column], distances.max(), distances[column] == distances.min())
        sequence.set_title(f"class “{CLASSES[label]}”", color=INK, fontsize=10)
        if column == 0:
            name_rows(sequence, centroid, weight, bar)
    return figure


def name_rows(sequence, centroid, weight, bar):
    """Say what each row of the picture shows, left of its first panel."""
    texts = {
        sequence: "one sequence,\na column per frame",
        centroid: "centroid of the class,\nlearned",
        weight: "weights, learned",
        bar: "weighted distance\nalong the alignment",
    }
    for axes, text in texts.items():
        height = 0.68 if axes is bar else 0.5
        axes.text(-0.05, height, text, transform=axes.transAxes, ha="right", va="center", color=INK)
    sequence.text(
        -0.05, -0.6, "alignment", transform=sequence.transAxes, ha="right", va="center", color=MUTED
    )


def main(path):
    """Write the picture as SVG, the same bytes each time."""
    matplotlib.use("Agg")
    options = {"font.size": 10, "svg.hashsalt": "skdejavid", "font.family": "DejaVu Sans"}
    with plt.rc_context(options):
        X, y = make_order_sequences(12, n_features=3, noise=0.15, random_state=1)
        x = X[np.flatnonzero(y == 3)[0]]
        classifier = fitted_classifier()
        figure = draw(classifier, x)
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
    return classifier.predict([x])[0]


if __name__ == "__main__":
    main(sys.argv[1])
