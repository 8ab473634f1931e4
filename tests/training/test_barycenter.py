import numpy as np
import pytest
import reference

from skdejavid import TSEArray
from skdejavid.training.barycenter import Pool, class_barycenters, dba, medoid


def make_pool(frames, sample_weight=None, diagonal=False, n_threads=1):
    n_sequences, n_timesteps, n_features = frames.shape
    if sample_weight is None:
        sample_weight = np.ones(n_sequences)
    return Pool(
        frames=frames,
        lengths=np.full(n_sequences, n_timesteps),
        sample_weight=np.asarray(sample_weight, dtype=float),
        feature_weight=np.ones(n_features, dtype=frames.dtype),
        diagonal=diagonal,
        n_threads=n_threads,
    )


def barycenters_of(X, labels, sample_weight=None, **changes):
    settings = {
        "n_timesteps": 5,
        "diagonal": False,
        "n_samples": 50,
        "max_iter": 100,
        "random_state": np.random.RandomState(0),
        "n_threads": 1,
    }
    X = TSEArray(X)
    if sample_weight is None:
        sample_weight = np.ones(len(X))
    feature_weight = np.ones(X.n_features, dtype=X.frames.dtype)
    return np.stack(
        list(class_barycenters(X, labels, sample_weight, feature_weight, **(settings | changes)))
    )


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_medoid_has_the_least_summed_distance(diagonal, rng):
    frames = rng.standard_normal((9, 4, 2))
    weight = rng.integers(1, 5, size=9)
    ones = np.ones((4, 2))
    totals = [
        sum(
            w * reference.dtw_distance(x, c, ones, diagonal)
            for x, w in zip(frames, weight, strict=True)
        )
        for c in frames
    ]
    found = medoid(make_pool(frames, weight, diagonal))
    np.testing.assert_array_equal(found, frames[np.argmin(totals)])


def test_the_order_of_two_equal_candidates_has_no_say(rng):
    frames = rng.standard_normal((2, 4, 2))  # the distance of two is symmetric
    np.testing.assert_array_equal(medoid(make_pool(frames)), medoid(make_pool(frames[::-1].copy())))


@pytest.mark.parametrize("diagonal", [False, True])
def test_dba_is_repeated_alignment_and_averaging(diagonal, rng):
    frames = rng.standard_normal((6, 5, 2))
    weight = rng.integers(1, 4, size=6)
    ones = np.ones((5, 2))
    expected = frames[0]
    for _ in range(3):
        expected = reference.barycenter(frames, expected, ones, weight, diagonal)
    found = dba(make_pool(frames, weight, diagonal), frames[0], max_iter=3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_dba_that_has_converged_is_what_a_hundred_rounds_give(rng):
    frames = rng.standard_normal((6, 5, 2))
    ones = np.ones((5, 2))
    expected = frames[0]
    for _ in range(100):
        expected = reference.barycenter(frames, expected, ones, np.ones(6))
    np.testing.assert_allclose(dba(make_pool(frames), frames[0], 100), expected, rtol=1e-12)


def test_no_round_keeps_the_medoid(rng):
    frames = rng.standard_normal((6, 5, 2))
    np.testing.assert_array_equal(dba(make_pool(frames), frames[3], max_iter=0), frames[3])


def test_every_class_gets_the_barycenter_of_its_own_sequences(ragged):
    X, labels = ragged
    together = barycenters_of(X, labels)
    assert together.shape == (3, 5, 3)
    for label in range(3):
        alone = barycenters_of([X[i] for i in np.flatnonzero(labels == label)], np.zeros(4, int))
        np.testing.assert_array_equal(together[label], alone[0])


def test_integer_weights_are_repetitions(rng):
    X = [rng.standard_normal((n, 2)) for n in (1, 3, 4, 7, 9)]
    weight = np.array([2, 1, 3, 1, 2])
    repeated = [x for x, w in zip(X, weight, strict=True) for _ in range(w)]
    np.testing.assert_allclose(
        barycenters_of(X, np.zeros(5, int), weight.astype(float)),
        barycenters_of(repeated[::-1], np.zeros(9, int)),
        rtol=1e-12,
    )


def test_single_frames_have_their_plain_mean(rng):
    """Copies would tie in every alignment, and rounding errors would choose the weights."""
    X = rng.standard_normal((7, 1, 3))
    found = barycenters_of(X, np.zeros(7, int))
    np.testing.assert_allclose(found[0], np.tile(X.mean(axis=(0, 1)), (5, 1)), rtol=1e-12)


def test_at_most_n_samples_are_drawn_reproducibly(rng):
    X, labels = rng.standard_normal((40, 6, 2)), np.zeros(40, int)
    few = barycenters_of(X, labels, n_samples=5)
    np.testing.assert_array_equal(few, barycenters_of(X, labels, n_samples=5))
    other = barycenters_of(X, labels, n_samples=5, random_state=np.random.RandomState(1))
    assert not np.array_equal(few, other)
    drawn = np.sort(np.random.RandomState(0).choice(np.arange(40), 5, replace=False))
    np.testing.assert_array_equal(few, barycenters_of(X[drawn], labels[:5]))


def test_feature_weights_choose_the_paths():
    """If the weight of a loud irrelevant feature is 0, the event in the other is averaged."""
    quiet = np.zeros((2, 6))
    quiet[0, 1:3] = quiet[1, 3:5] = 1.0  # the same event, at different times
    loud = np.random.default_rng(0).normal(scale=100, size=(2, 6))
    X, labels = np.stack([quiet, loud], axis=2), np.zeros(2, int)
    sample_weight = np.ones(2)

    def event_of(feature_weight):
        centroids = class_barycenters(
            TSEArray(X),
            labels,
            sample_weight,
            np.array(feature_weight),
            n_timesteps=6,
            diagonal=False,
            n_samples=9,
            max_iter=20,
            random_state=np.random.RandomState(0),
            n_threads=1,
        )
        return next(centroids)[:, 0].max()

    assert event_of([1.0, 1e-6]) == pytest.approx(1.0)
    assert event_of([1e-6, 1.0]) < 1.0
