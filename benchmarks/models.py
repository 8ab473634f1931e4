"""Classifiers to compare, by name; each receives features of equal scale.

A *specification* is a name, or a name with parameters as Python writes them:
``DejaVid(n_timesteps=8, differences=None)``.
"""

import ast

import joblib
import numpy as np
from aeon.classification.convolution_based import MiniRocketClassifier, MultiRocketHydraClassifier
from aeon.classification.interval_based import QUANTClassifier
from aeon.distances import pairwise_distance
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tslearn.barycenters import softdtw_barycenter
from tslearn.metrics import cdist_soft_dtw

from skdejavid import DejaVidClassifier, Framewise, Resample
from skdejavid.sequences.transforms import resample


def mean_over_time(X):
    """Return the means over time, (n_sequences, n_features)."""
    return np.add.reduceat(X.frames, X.offsets[:-1]) / X.lengths[:, None]


def flatten(X):
    """Return sequences of one length as a table (n_sequences, n_frames * n_features)."""
    return np.stack(list(X)).reshape(len(X), -1)


def as_aeon(X):
    """Return sequences of one length as an array (n_sequences, n_features, n_frames)."""
    return np.ascontiguousarray(np.stack(list(X)).transpose(0, 2, 1))


class NearestNeighbor(ClassifierMixin, BaseEstimator):
    """1-NN with dependent DTW; probabilities are computed from the nearest neighbor of each class.

    They are the softmax of minus these distances divided by a scale. The scale minimizes the
    log-loss when each of `n_calibration` training sequences is left out in turn.
    """

    def __init__(self, n_calibration=100):
        self.n_calibration = n_calibration

    def fit(self, X, y):
        """Store the sequences and determine the scale."""
        self.classes_, self.labels_ = np.unique(y, return_inverse=True)
        self.neighbors_ = [x.T for x in X]
        chosen = np.linspace(0, len(X) - 1, min(len(X), self.n_calibration)).astype(int)
        distances = self._to_all([self.neighbors_[i] for i in chosen])
        distances[np.arange(len(chosen)), chosen] = np.inf
        nearest = self._of_classes(distances)
        usual = np.median(nearest[np.isfinite(nearest)])
        nearest = np.where(np.isfinite(nearest), nearest, nearest[np.isfinite(nearest)].max())

        def loss(log_scale):
            logits = log_softmax(-nearest / (usual * np.exp(log_scale)), axis=1)
            return -logits[np.arange(len(chosen)), self.labels_[chosen]].mean()

        best = minimize_scalar(loss, bounds=(-6, 6), method="bounded")
        self.scale_ = usual * np.exp(best.x)
        return self

    def _to_all(self, series):
        return pairwise_distance(series, self.neighbors_, method="dtw", n_jobs=1)

    def _of_classes(self, distances):
        members = [self.labels_ == label for label in range(len(self.classes_))]
        return np.stack([distances[:, member].min(axis=1) for member in members], axis=1)

    def predict_proba(self, X):
        """Return probabilities (n_sequences, n_classes)."""
        nearest = self._of_classes(self._to_all([x.T for x in X]))
        return softmax(-nearest / self.scale_, axis=1)

    def predict(self, X):
        """Return the class of the nearest neighbor of each sequence."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class SoftDTWCentroids(ClassifierMixin, BaseEstimator):
    """Nearest soft-DTW barycenter of tslearn, of at most 50 sequences per class by default."""

    def __init__(self, gamma=1.0, n_samples=50, max_iter=30, random_state=None):
        self.gamma = gamma
        self.n_samples = n_samples
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y):
        """Compute a barycenter of median length for each class."""
        rng = np.random.default_rng(self.random_state)
        n_timesteps = int(np.median(X.lengths))
        self.classes_ = np.unique(y)
        self.centroids_ = []
        for label in self.classes_:
            members = rng.permutation(np.flatnonzero(y == label))[: self.n_samples]
            start = resample(X.view(members), n_timesteps).mean(axis=0)
            self.centroids_.append(
                softdtw_barycenter(
                    [X[i] for i in members], self.gamma, init=start, max_iter=self.max_iter
                )
            )
        distances = self._distances(X)
        self.scale_ = distances.std(axis=1).mean()
        return self

    def _distances(self, X):
        return cdist_soft_dtw(list(X), self.centroids_, gamma=self.gamma)

    def predict_proba(self, X):
        """Return probabilities (n_sequences, n_classes)."""
        return softmax(-self._distances(X) / self.scale_, axis=1)

    def predict(self, X):
        """Return the class of the nearest barycenter of each sequence."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


heads = {}


def trained_head(frames, y):
    """Return a linear classifier of frames; fits to the same data in one process share it."""
    key = joblib.hash((frames, y))
    if key not in heads:
        heads[key] = logistic(0).fit(frames, y)
    return heads[key]


class EmbeddingAndLogits(TransformerMixin, BaseEstimator):
    """Appends to each embedding the logits of a linear head that is trained on the same frames.

    This imitates encoders that were fine-tuned on the classes, like the paper's.
    """

    def fit(self, frames, y):
        """Train the head."""
        self.head_ = trained_head(frames, y)
        return self

    def transform(self, frames):
        """Return the features with the logits of ``n_classes`` appended."""
        return np.hstack([frames, self.head_.decision_function(frames).astype(frames.dtype)])


class Supersampling(ClassifierMixin, BaseEstimator):
    """The paper's baseline: the mean over time of the head's logits, without any matching."""

    def fit(self, X, y):
        """Train the head on frames."""
        self.head_ = Framewise(EmbeddingAndLogits()).fit(X, y)
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        """Return probabilities (n_sequences, n_classes)."""
        return softmax(mean_over_time(self.head_.transform(X))[:, -len(self.classes_) :], axis=1)

    def predict(self, X):
        """Return the class with the largest mean logit."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def scaled(*steps):
    """Return a pipeline that first standardizes the features."""
    return make_pipeline(Framewise(StandardScaler()), *steps)


def of_equal_length(classifier):
    """Return a pipeline that resamples to the median length for a classifier of aeon."""
    return scaled(Resample("median"), FunctionTransformer(as_aeon), classifier)


def logistic(random_state):
    """Return logistic regression with scikit-learn's default penalty."""
    return make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=2000, random_state=random_state)
    )


def ours(random_state, **parameters):
    """Return our classifier, which standardizes features itself."""
    return DejaVidClassifier(random_state=random_state, n_jobs=1, **parameters)


def published(random_state, **parameters):
    """Return our classifier with the paper's parameters."""
    return DejaVidClassifier.paper(random_state=random_state, n_jobs=1, **parameters)


def on_components(seed, n_components=128):
    """Return the pipeline for wide embeddings of docs/howto/preprocess.md."""
    return make_pipeline(
        Framewise(PCA(n_components, random_state=seed)), ours(seed, standardize=False)
    )


def with_head(seed, timesteps=False, **parameters):
    """Return a linear classifier of our distances, or of their parts by time step."""
    return make_pipeline(ours(seed, transform_timesteps=timesteps, **parameters), logistic(seed))


def with_logits(classifier):
    """Return a pipeline that appends logits to the embeddings."""
    return make_pipeline(Framewise(EmbeddingAndLogits()), classifier)


MODELS = {
    "DejaVid": ours,
    "paper": published,
    "DejaVid on components": on_components,
    "DejaVid + head": with_head,
    "DejaVid on logits": lambda seed, **parameters: with_logits(ours(seed, **parameters)),
    "paper on logits": lambda seed, **parameters: with_logits(published(seed, **parameters)),
    "supersampling": lambda seed: Supersampling(),
    "mean + logistic": lambda seed: scaled(FunctionTransformer(mean_over_time), logistic(seed)),
    "8 steps + logistic": lambda seed: scaled(
        Resample(8), FunctionTransformer(flatten), logistic(seed)
    ),
    "1-NN DTW": lambda seed: scaled(NearestNeighbor()),
    "soft-DTW centroids": lambda seed: scaled(SoftDTWCentroids(random_state=seed)),
    "MiniRocket": lambda seed: of_equal_length(MiniRocketClassifier(random_state=seed)),
    "MultiRocket-Hydra": lambda seed: of_equal_length(
        MultiRocketHydraClassifier(random_state=seed)
    ),
    "QUANT": lambda seed: of_equal_length(QUANTClassifier(random_state=seed)),
}
PEERS = [
    "mean + logistic",
    "8 steps + logistic",
    "1-NN DTW",
    "soft-DTW centroids",
    "MiniRocket",
    "MultiRocket-Hydra",
    "QUANT",
]
ONE_SEED = {
    "mean + logistic",
    "8 steps + logistic",
    "1-NN DTW",
    "supersampling",
}  # nothing in them is random


def parse(specification):
    """Return the name in `MODELS` and the parameters of a specification."""
    name, parenthesis, rest = specification.partition("(")
    if not parenthesis:
        return name, {}
    call = ast.parse(f"dict({rest}", mode="eval").body
    return name, {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


def make(specification, seed):
    """Return an unfitted classifier."""
    name, parameters = parse(specification)
    return MODELS[name](seed, **parameters)
