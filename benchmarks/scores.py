"""Scores of probabilities (n_samples, n_classes), given the columns (n_samples,) of the labels."""

import numpy as np


def clipped_log_loss(probabilities, labels, floor=1e-3):
    """Mean of minus the logarithm of the label's probability, which is at least `floor`.

    Some classifiers give 0 and 1 as probabilities; without a floor a single mistake of theirs would
    be all that is seen.
    """
    likelihoods = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihoods, floor)).mean())


def expected_calibration_error(probabilities, labels, n_bins=15):
    """How far accuracy is from the largest probability, over bins of equal width of the latter.

    The mean of the absolute differences of their means within each bin, weighted by its samples.
    """
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, is_right - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(labels))
