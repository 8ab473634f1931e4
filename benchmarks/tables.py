"""Tables in Markdown of what `evaluate` has computed."""

import statistics
from collections import defaultdict

import numpy as np
from scipy.stats import rankdata, wilcoxon


def means(records, value):
    """The mean of a value over the runs of each (model, set)."""
    values = defaultdict(list)
    for run, record in records.items():
        values[run.model, run.set].append(record[value])
    return {key: statistics.mean(items) for key, items in values.items()}


def average_ranks(accuracies, sets, models):
    """Rank 1 is the best of a set; equal accuracies share the mean of their ranks."""
    ranks = [rankdata([-accuracies.get((model, name), 0.0) for model in models]) for name in sets]
    return dict(zip(models, np.mean(ranks, axis=0), strict=True))


def compare(accuracies, sets, model, other):
    """Sets won, tied and lost against another model, and Wilcoxon's two-sided p-value."""
    pairs = [
        (accuracies.get((model, name), 0.0), accuracies.get((other, name), 0.0)) for name in sets
    ]
    gains = np.round([mine - theirs for mine, theirs in pairs], 9)
    counts = f"{(gains > 0).sum()}/{(gains == 0).sum()}/{(gains < 0).sum()}"
    return counts, wilcoxon(gains).pvalue if gains.any() else 1.0


def rows_of(header, rows):
    """A Markdown table: the first column to the left, all others to the right."""
    yield "| " + " | ".join(header) + " |"
    yield "|---|" + "---:|" * (len(header) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def print_tables(records, sets, models):
    """Accuracy for each set; then ranks, probabilities and times."""
    accuracies = means(records, "accuracy")

    def percent(model, name):
        value = accuracies.get((model, name))
        return "-" if value is None else f"{100 * value:.1f}"

    def total(value, model, combine):
        found = means(records, value)
        return combine([found[model, name] for name in sets if (model, name) in found] or [np.nan])

    body = [[name, *(percent(model, name) for model in models)] for name in sets]
    body.append(["mean", *(f"{100 * total('accuracy', m, np.mean):.1f}" for m in models)])
    print("\n".join(rows_of(["accuracy", *models], body)), end="\n\n")

    ranks = average_ranks(accuracies, sets, models)
    body = []
    for model in sorted(models, key=ranks.get):
        counts, p_value = compare(accuracies, sets, models[0], model)
        body.append(
            [
                model,
                f"{ranks[model]:.2f}",
                "" if model == models[0] else counts,
                "" if model == models[0] else f"{p_value:.3f}",
                f"{total('log-loss', model, np.mean):.3f}",
                f"{total('calibration error', model, np.mean):.3f}",
                f"{total('fit seconds', model, sum):.1f}",
                f"{total('predict seconds', model, sum):.2f}",
            ]
        )
    header = ["model", "rank", f"won/tied/lost by {models[0]}", "p", "log-loss", "ECE"]
    print("\n".join(rows_of([*header, "fit, s", "predict, s"], body)))
