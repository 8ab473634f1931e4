"""Sizes of problems by name: those of the paper's data sets, and a small one."""

from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """Number and size of centroids, and size of a sequence."""

    n_centroids: int
    n_timesteps: int
    n_frames: int
    n_features: int

    @property
    def n_elements(self):
        """Number of weighted differences to align one sequence with all centroids."""
        return self.n_centroids * self.n_timesteps * self.n_frames * self.n_features

    @property
    def n_elements_along(self):
        """Number of weighted differences along the paths of one sequence to all centroids."""
        return self.n_centroids * (self.n_timesteps + self.n_frames - 1) * self.n_features

    def draw(self, n_sequences, dtype=np.float32, seed=0):
        """Return random packed values, starts and lengths of sequences, centroids and weights."""
        rng = np.random.default_rng(seed)
        values = rng.standard_normal((n_sequences * self.n_frames, self.n_features), dtype=dtype)
        shape = (self.n_centroids, self.n_timesteps, self.n_features)
        centroids, weights = rng.standard_normal(shape, dtype=dtype), rng.random(shape, dtype=dtype)
        starts = np.arange(n_sequences, dtype=np.int64) * self.n_frames
        return values, starts, np.full(n_sequences, self.n_frames), centroids, weights


CASES = {
    "HMDB51": Case(51, 8, 33, 1459),
    "Kinetics-400": Case(400, 8, 33, 1808),
    "Something-Something V2": Case(174, 8, 40, 6328),
    "JapaneseVowels": Case(9, 8, 15, 12),
}
