"""Scores of probabilities (n_samples, n_classes), given the columns (n_samples,) of the labels."""

import numpy as np


def clipped_log_loss(probabilities, labels, floor=1e-3):
    """Return the mean log-loss, with probabilities of labels raised to at least `floor`.

    Some classifiers predict probabilities of 0 and 1. Without a floor, a single mistake of theirs
    would dominate the mean.
    """
    likelihoods = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihoods, floor)).mean())


def expected_calibration_error(probabilities, labels, n_bins=15):
    """Return the expected calibration error, over bins of the largest probability of equal width.

    It is the mean over bins, weighted by their numbers of samples, of the absolute difference
    between the accuracy and the mean of the largest probability.
    """
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, is_right - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(labels))
