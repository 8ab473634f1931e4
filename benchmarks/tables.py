"""Markdown tables of the results of `evaluate`."""

import statistics
from collections import Counter, defaultdict

import numpy as np
from scipy.stats import rankdata, wilcoxon


def means(records, value):
    """Return the mean of a value over the results of each (model, set)."""
    values = defaultdict(list)
    for fit, record in records.items():
        values[fit.model, fit.set].append(record[value])
    return {key: statistics.mean(items) for key, items in values.items()}


def average_ranks(accuracies, sets, models):
    """Return mean ranks over sets: 1 is the best, and equal accuracies share their mean rank."""
    ranks = [rankdata([-accuracies[model, name] for model in models]) for name in sets]
    return dict(zip(models, np.mean(ranks, axis=0), strict=True))


def compare(accuracies, sets, model, other):
    """Return sets won, tied and lost against another model, and Wilcoxon's two-sided p-value."""
    mine, theirs = (np.array([accuracies[each, name] for name in sets]) for each in (model, other))
    gains = (mine - theirs).round(9)
    counts = f"{(gains > 0).sum()}/{(gains == 0).sum()}/{(gains < 0).sum()}"
    return counts, wilcoxon(gains).pvalue if gains.any() else 1.0


def rows_of(header, rows):
    """Yield the lines of a Markdown table: first column left-aligned, others right-aligned."""
    yield "| " + " | ".join(header) + " |"
    yield "|---|" + "---:|" * (len(header) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def print_tables(records, sets, models):
    """Print accuracies for each set, then the summary of the models with results for all sets."""
    accuracies = means(records, "accuracy")
    complete = [model for model in models if all((model, name) in accuracies for name in sets)]

    def percent(model, name):
        value = accuracies.get((model, name))
        return "-" if value is None else f"{100 * value:.1f}"

    body = [[name, *(percent(model, name) for model in models)] for name in sets]
    overall = {m: np.mean([accuracies[m, name] for name in sets]) for m in complete}
    body.append(["mean", *(f"{100 * overall[m]:.1f}" if m in overall else "-" for m in models)])
    print("\n".join(rows_of(["accuracy", *models], body)), end="\n\n")

    n_seeds = Counter((fit.model, fit.set) for fit in records)
    for model in models:
        counts = [n_seeds[model, name] for name in sets]
        for name, count in zip(sets, counts, strict=True):
            if count < max(counts):
                print(f"{model} has {count} instead of {max(counts)} fits of {name}.\n")
    if complete:
        print("\n".join(summary(records, sets, complete, accuracies)))


def summary(records, sets, models, accuracies):
    """Yield one row per model, best rank first, each compared with the first of `models`."""
    ranks = average_ranks(accuracies, sets, models)
    columns = {
        value: means(records, value)
        for value in ("log-loss", "calibration error", "fit seconds", "predict seconds")
    }

    def over_sets(model, value):
        return np.array([columns[value][model, name] for name in sets])

    body = []
    for model in sorted(models, key=ranks.get):
        counts, p_value = compare(accuracies, sets, models[0], model)
        body.append(
            [
                model,
                f"{ranks[model]:.2f}",
                "" if model == models[0] else counts,
                "" if model == models[0] else f"{p_value:.3f}",
                f"{over_sets(model, 'log-loss').mean():.3f}",
                f"{over_sets(model, 'calibration error').mean():.3f}",
                f"{over_sets(model, 'fit seconds').sum():.1f}",
                f"{over_sets(model, 'predict seconds').sum():.2f}",
            ]
        )
    header = ["model", "rank", f"won/tied/lost by {models[0]}", "p", "log-loss", "ECE"]
    yield from rows_of([*header, "fit, s", "predict, s"], body)
