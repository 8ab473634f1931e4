import numpy as np
import pytest

from skdejavid import TSEArray
from skdejavid.datasets import make_order_sequences
from skdejavid.sequences.axes import looks_transposed


def courses(rng, n_frames, n_features, n_sequences=20):
    """Return smooth courses of features that know nothing of each other, each of its own level."""
    steps = rng.standard_normal((n_sequences, n_frames, n_features))
    levels = np.resize([1.0, -1.0], n_features) * 2 * np.sqrt(n_frames)
    return np.cumsum(steps, axis=1) + levels


def independent_frames(rng, n_frames, n_features, n_sequences=40):
    """Return frames, as days or spectra, that are smooth and know nothing of each other."""
    return np.cumsum(rng.standard_normal((n_sequences, n_frames, n_features)), axis=2)


@pytest.mark.fault(95)
@pytest.mark.parametrize(("n_frames", "n_channels"), [(100, 6), (20, 12), (150, 1), (40, 9)])
def test_channels_before_time_are_noticed_and_time_before_channels_is_not(
    n_frames, n_channels, rng
):
    X = courses(rng, n_frames, n_channels)
    assert looks_transposed(TSEArray(X.swapaxes(1, 2)).view())
    assert not looks_transposed(TSEArray(X).view())


@pytest.mark.fault(95)
def test_many_features_of_few_frames_are_no_channels(rng):
    """As embeddings are: unrelated features, more than there are frames."""
    assert not looks_transposed(TSEArray(courses(rng, 16, 512)).view())
    assert not looks_transposed(TSEArray(rng.standard_normal((20, 16, 512))).view())
    assert not looks_transposed(TSEArray(rng.standard_normal((20, 1, 512))).view())


@pytest.mark.fault(95)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("n_sequences", [2, 5, 20, 100])
@pytest.mark.parametrize("n_frames", [2, 3, 6, 12])
def test_independent_frames_are_no_channels(n_frames, n_sequences, seed):
    rng = np.random.default_rng(seed)
    X = independent_frames(rng, n_frames, 40, n_sequences)
    assert not looks_transposed(TSEArray(X).view())


def test_a_drift_over_independent_frames_is_no_channel(rng):
    drift = 20 * np.linspace(-1, 1, 10)[:, None]
    X = independent_frames(rng, 10, 60)
    assert not looks_transposed(TSEArray(X + drift).view())
    rise_and_fall = 20 * np.sin(np.pi * np.linspace(0, 1, 10))[:, None]
    assert not looks_transposed(TSEArray(X + rise_and_fall).view())


@pytest.mark.parametrize("level", [lambda t: t, lambda t: np.sin(np.pi * t)])
def test_levels_that_drift_below_rough_frames_are_no_channels(level, rng):
    """Waves of random phase hide the levels, whose order is a course of time all the same."""
    phases = 2 * np.pi * (rng.random((40, 10, 1)) + np.arange(60) / 60)
    drift = 0.3 * level(np.linspace(0, 1, 10))[:, None]
    assert not looks_transposed(TSEArray(np.sin(phases) + drift).view())
    order = [0, 9, 1, 8, 2, 7, 3, 6, 4, 5] if level(0.5) == 0.5 else [0, 5, 1, 6, 2, 7, 9, 4, 8, 3]
    assert looks_transposed(TSEArray(np.sin(phases) + drift[order]).view())


@pytest.mark.parametrize("n_frames", [2, 3, 4, 5])
def test_a_rise_and_fall_in_few_frames_is_no_channel(n_frames, rng):
    X = independent_frames(rng, n_frames, 60)
    X[:, 1:-1] += 100
    assert not looks_transposed(TSEArray(X).view())


def test_few_sequences_are_not_enough_to_tell(rng):
    X = courses(rng, 100, 6).swapaxes(1, 2)
    assert looks_transposed(TSEArray(X).view())
    assert not looks_transposed(TSEArray(X[:19]).view())


def test_smooth_spectra_of_smooth_courses_are_not_suspected(rng):
    spectra = np.cumsum(np.cumsum(rng.standard_normal((20, 30, 64)), axis=1), axis=2)
    assert not looks_transposed(TSEArray(spectra).view())


def test_sequences_of_several_lengths_are_not_suspected(rng):
    X = courses(rng, 40, 6).swapaxes(1, 2)
    assert looks_transposed(TSEArray(X).view())
    assert not looks_transposed(TSEArray([*X, X[0][:5]]).view())


@pytest.mark.parametrize("value", [0.0, 1e308, 5e-324])
def test_numbers_without_a_course_are_not_suspected(value):
    assert not looks_transposed(TSEArray(np.full((3, 2, 40), value)).view())


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_units_do_not_matter(scale, rng):
    X = courses(rng, 100, 6).swapaxes(1, 2) * scale
    assert looks_transposed(TSEArray(X).view())


def test_the_sequences_that_we_generate_are_not_suspected():
    X, _ = make_order_sequences(30, random_state=0)
    shortest = X.lengths.min()
    assert not looks_transposed(TSEArray(np.stack([x[:shortest] for x in X])).view())


@pytest.mark.fault(95)
def test_days_of_a_week_are_no_channels():
    import aeon.datasets

    days, _ = aeon.datasets.load_italy_power_demand()
    weeks = days[: 154 * 7, 0].reshape(154, 7, 24)
    assert not looks_transposed(TSEArray(weeks).view())


AEON = ["load_basic_motions", "load_japanese_vowels", "load_gunpoint", "load_arrow_head"]


@pytest.mark.slow
@pytest.mark.fault(95)
@pytest.mark.parametrize("name", AEON)
def test_the_sets_bundled_with_aeon_are_suspected_only_if_read_wrongly(name):
    import aeon.datasets

    series, _ = getattr(aeon.datasets, name)()
    length = min(x.shape[1] for x in series)
    equal = np.stack([x[:, :length] for x in series])
    assert not looks_transposed(TSEArray.from_aeon(equal).view())
    if length > 11:  # the shortest of JapaneseVowels has fewer frames than features
        assert looks_transposed(TSEArray(equal).view())
