"""The method in plain NumPy: float64, as simple as possible, without regard to speed.

Tests compare everything else with it. Symbols are those of docs/explanation/method.md: ``x`` is a
sequence (n_frames, n_features), ``c`` a centroid and ``u`` its weights, both (n_timesteps,
n_features).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Cost(NamedTuple):
    """A cost: a function of the difference of a centroid and a frame, and its derivative."""

    deviation: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]


ABSOLUTE = Cost(np.abs, np.sign)
SQUARED = Cost(np.square, lambda difference: 2 * difference)


def cost_matrix(x, c, u, cost_term=ABSOLUTE):
    """Compute cost[i, j] = sum_f u[i, f] * deviation(c[i, f] - x[j, f])."""
    x, c, u = (np.asarray(array, dtype=np.float64) for array in (x, c, u))
    cost = np.zeros((len(c), len(x)))
    for i in range(len(c)):
        for j in range(len(x)):
            cost[i, j] = (u[i] * cost_term.deviation(c[i] - x[j])).sum()
    return cost


def totals(cost, diagonal=False):
    """Compute the cost of the cheapest path to each cell (the paper's Algorithm 1)."""
    total = np.full(cost.shape, math.inf)
    for i in range(cost.shape[0]):
        for j in range(cost.shape[1]):
            before = [0.0] if i == j == 0 else []
            if i > 0:
                before.append(total[i - 1, j])
            if j > 0:
                before.append(total[i, j - 1])
            if diagonal and i > 0 and j > 0:
                before.append(total[i - 1, j - 1])
            total[i, j] = min(before) + cost[i, j]
    return total


def walk_back(total, diagonal=False):
    """List the cells of the cheapest path from the first to the last, under the tie rule.

    Backtracking from the end, a diagonal step is taken where it is allowed and its total is at most
    the others; a step to (i - 1, j) only if that total is strictly smaller than (i, j - 1).
    """
    i, j = total.shape[0] - 1, total.shape[1] - 1
    cells = [(i, j)]
    while (i, j) != (0, 0):
        along_centroid = total[i - 1, j] if i > 0 else math.inf
        along_sequence = total[i, j - 1] if j > 0 else math.inf
        both = total[i - 1, j - 1] if diagonal and i > 0 and j > 0 else math.inf
        if both <= min(along_centroid, along_sequence) and both < math.inf:
            i, j = i - 1, j - 1
        elif along_centroid < along_sequence:
            i -= 1
        else:
            j -= 1
        cells.append((i, j))
    return np.array(cells[::-1])


def dtw_path(x, c, u, diagonal=False):
    return walk_back(totals(cost_matrix(x, c, u), diagonal), diagonal)


def dtw_distance(x, c, u, diagonal=False):
    return totals(cost_matrix(x, c, u), diagonal)[-1, -1]


def distance_along(x, c, u, path):
    cost = cost_matrix(x, c, u)
    return sum(cost[i, j] for i, j in path)


def gradients_along(x, c, u, path, cost_term=ABSOLUTE):
    """Compute the derivatives of the distance along a path with respect to c, u and x."""
    x, c, u = (np.asarray(array, dtype=np.float64) for array in (x, c, u))
    by_c, by_u, by_x = np.zeros_like(c), np.zeros_like(u), np.zeros_like(x)
    for i, j in path:
        difference = c[i] - x[j]
        by_c[i] += u[i] * cost_term.slope(difference)
        by_u[i] += cost_term.deviation(difference)
        by_x[j] -= u[i] * cost_term.slope(difference)
    return by_c, by_u, by_x


def resample(x, n_timesteps):
    """Interpolate linearly, keeping the end points."""
    positions = [k * (len(x) - 1) / (n_timesteps - 1) for k in range(n_timesteps)]
    return np.array([[np.interp(t, range(len(x)), column) for column in x.T] for t in positions])


def barycenter(pool, c, u, sample_weight, diagonal=False):
    """Compute one round of DBA: the weighted mean of the frames matched to each time step."""
    sums, counts = np.zeros(np.shape(c)), np.zeros(len(c))
    for x, weight in zip(pool, sample_weight, strict=True):
        for i, j in dtw_path(x, c, u, diagonal):
            sums[i] += weight * x[j]
            counts[i] += weight
    return sums / counts[:, None]


def standardize(distances):
    """Return a sample's logits: minus the distances, with mean 0 and unbiased deviation 1."""
    return -(distances - distances.mean()) / distances.std(ddof=1)


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def loss(distances, label):
    return -math.log(softmax(standardize(distances))[label])


def loss_gradient(distances, label):
    """Compute dL/dD of the cross-entropy of the soft-min of standardized distances."""
    n_classes = len(distances)
    z = standardize(distances)
    by_z = softmax(z) - (np.arange(n_classes) == label)
    deviation = distances.std(ddof=1)
    by_minus_d = (by_z - by_z.mean() - z * (by_z @ z) / (n_classes - 1)) / deviation
    return -by_minus_d


class AdamW:
    """AdamW without weight decay for one array."""

    def __init__(self, shape):
        self.first, self.second, self.n_steps = np.zeros(shape), np.zeros(shape), 0

    def step(self, gradient, learning_rate):
        self.n_steps += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        first = self.first / (1 - 0.9**self.n_steps)
        second = self.second / (1 - 0.999**self.n_steps)
        return -learning_rate * first / (np.sqrt(second) + 1e-8)


def train(sequences, labels, centroids, log_weights, epochs, learning_rate, centroid_learning_rate):
    """Train as published (Sec. 3.4 and 4.2), and return centroids and log-weights.

    `epochs` lists the batches of each epoch.
    """
    c, v = np.array(centroids, dtype=np.float64), np.array(log_weights, dtype=np.float64)
    adam_c, adam_v = AdamW(c.shape), AdamW(v.shape)
    for epoch, batches in enumerate(epochs):
        cosine = 0.5 * (1 + math.cos(math.pi * epoch / len(epochs)))
        frozen_c, frozen_u = c.copy(), np.exp(v)
        for batch in batches:
            u = np.exp(v)
            by_c, by_v = np.zeros_like(c), np.zeros_like(v)
            for s in batch:
                x = sequences[s]
                classes = range(len(c))
                paths = [dtw_path(x, frozen_c[k], frozen_u[k]) for k in classes]
                distances = np.array([distance_along(x, c[k], u[k], paths[k]) for k in classes])
                by_distance = loss_gradient(distances, labels[s]) / len(batch)
                for k in classes:
                    dc, du, _ = gradients_along(x, c[k], u[k], paths[k])
                    by_c[k] += by_distance[k] * dc
                    by_v[k] += by_distance[k] * du * u[k]
            c += adam_c.step(by_c, cosine * centroid_learning_rate)
            v += adam_v.step(by_v, cosine * learning_rate)
    return c, v
