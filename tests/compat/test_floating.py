"""NumPy's error state is the caller's, and nothing fails of a harmless underflow.

Everything public is called while NumPy raises FloatingPointError for each underflow, overflow,
division by zero and invalid operation, with ordinary and with tiny values.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from public_api import public_functions
from sklearn.preprocessing import StandardScaler

from skdejavid import (
    AlignmentDisplay,
    DejaVidClassifier,
    Framewise,
    Interpolate,
    Resample,
    TimeDifferences,
    TSEArray,
    TSEExtractor,
    TSEStore,
    alignment,
    check_sequences,
    datasets,
    dtw_distances,
    dtw_path,
    interchange,
)
from skdejavid.compat.floating import underflow_allowed
from skdejavid.inspection import permutation_importance
from skdejavid.nn import TimeWeightedDTW

# Normal numbers, numbers whose squares vanish, and some whose products with 0.1 vanish.
SCALES = {
    "ordinary": (np.float64, 1.0),
    "ordinary float32": (np.float32, 1.0),
    "small": (np.float64, 2.0**-600),
    "small float32": (np.float32, 2.0**-60),
    "tiny": (np.float64, 2.0**-1000),
    "tiny float32": (np.float32, 2.0**-100),
}


class Data:
    """Sequences with a spread of magnitudes, and what is made of them."""

    def __init__(self, dtype, scale, folder):
        with np.errstate(under="ignore"):
            X, self.y = datasets.make_order_sequences(30, random_state=0)
            self.X = TSEArray([x.astype(dtype) * dtype(scale) for x in X])
            self.x = self.X[0]
            self.X3 = self.X.to_padded(0.0)
            self.clf = DejaVidClassifier(n_timesteps=3, n_epochs=2, random_state=0)
            self.clf.fit(self.X, self.y)
            # Between such values there are some that the type does not have.
            values = (8 * np.finfo(dtype).smallest_subnormal * X.frames).astype(dtype)
            values[::3, 0] = values[:40, 1] = np.nan
            self.with_missing = TSEArray.from_packed(values, X.offsets)
        self.folder = folder
        self.dtype, self.scale = dtype, scale

    def quick(self, **parameters):
        quick = {"n_timesteps": 3, "n_epochs": 3, "random_state": 0}
        return DejaVidClassifier(**quick | parameters)

    def fit_in_all_ways(self):
        weight = np.logspace(-300, 0, 30)
        for parameters in (
            {},
            {"early_stopping": True, "validation_fraction": 0.3},
            {"logit_scaling": "sample", "path_refresh": "epoch", "weight_init": "random"},
            {"temperature": 1e-4, "class_weight": "balanced"},
            {"learning_rate": 1e-3, "checkpoint_dir": self.folder / "checkpoint"},
        ):
            clf = self.quick(**parameters).fit(self.X, self.y)
            clf.set_params(warm_start=True, checkpoint_dir=None).fit(self.X, self.y)
        self.quick().fit(self.X, self.y, weight)

    def save(self):
        self.clf.save(self.folder / "model.safetensors")
        return DejaVidClassifier.load(self.folder / "model.safetensors")

    def transform_by(self, transformer, X=None):
        X = self.X if X is None else X
        transformer.set_output()
        transformer.fit(X).transform(X)
        transformer.fit_transform(X)
        transformer.get_feature_names_out()

    def extract(self):
        encoder = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten())
        video = np.zeros((20, 16, 16, 3), dtype=np.uint8)
        settings = {"frame_size": 8, "encoder_id": "a", "store_dtype": "float16"}
        extractor = TSEExtractor(
            lambda clips: encoder(clips) * self.scale, store=self.folder / "store", **settings
        )
        extractor.set_output()
        extractor.fit().extract([video], ids=["a"])
        extractor.encoder_fingerprint()
        extractor.store_fingerprint()
        TSEStore(self.folder / "store").verify(extractor, {"a": video})
        extractor.set_params(store=None).transform([video])

    def store(self):
        for dtype in ("float16", "float32", "float64"):
            store = TSEStore.create(self.folder / dtype, dtype=dtype, n_shards=2)
            with store.write(0) as writer:
                writer.append("a", self.x, n_bytes=3)
                writer.commit()
                writer.write_partial("b", self.x)
                writer.discard_partial()
                writer.fail("c", "broken")
                writer.n_bytes("a")
                writer.file("a")
            with store.write(1):
                pass
            store = TSEStore(self.folder / dtype)
            store.set_labels({"a": 1})
            store.consolidate()
            store.verify()
            store.n_bytes("a")
            store.file("a")
            store.sequences(["a"]).astype(np.float64)

    def convert(self):
        for dtype in (np.float32, np.float64):
            self.X.astype(dtype).packed().view()
        list(self.X.chunks())
        TSEArray([np.full((3, 2), np.longdouble("1e-320") / 1024)])
        names = [f"feature {k}" for k in range(self.X.n_features)]
        TSEArray.from_packed(self.X.frames, self.X.offsets, self.X.spans, feature_names=names)
        TSEArray.from_padded(self.X3, lengths=self.X.lengths)
        for form in ("aeon", "arrow", "awkward", "sktime", "tslearn"):
            getattr(TSEArray, f"from_{form}")(getattr(self.X, f"to_{form}")())
        self.X.to_padded(1e-300)
        table = pd.DataFrame(self.X.frames)
        table["id"] = np.repeat(np.arange(len(self.X)), self.X.lengths)
        TSEArray.from_long(table, id="id")

    def write_arrow(self):
        interchange.write_arrow(self.X, self.folder / "a.arrow")
        interchange.read_arrow(self.folder / "a.arrow")

    def match(self):
        module = TimeWeightedDTW.from_estimator(self.clf)
        module(list(self.X)).sum().backward()
        module.to_estimator(self.clf)

    def draw(self):
        display = AlignmentDisplay.from_estimator(self.clf, self.x)
        display.plot().figure_.clear()

    def make(self):
        datasets.make_order_sequences(3, noise=1e-300, random_state=0)
        datasets.make_event_sequences(4, noise=1e-300, random_state=0)
        datasets.make_order_videos(1, size=16, random_state=0)
        frames, _ = datasets.make_event_frames(2, size=16, random_state=0)
        datasets.write_video(self.folder / "a.avi", frames, codec="mpeg4")
        datasets.load_japanese_vowels()


def align(data):
    weights = np.full(data.clf.centroids_.shape, 1e-300)
    centroids = data.clf.centroids_
    X = TimeDifferences(data.clf.lags_).fit_transform(data.X)
    dtw_distances(X, centroids, weights)
    dtw_distances(X.astype(np.float32), centroids.astype(np.float64), weights)
    dtw_path(X[0], centroids[0], weights[0])
    for compute in (alignment.compute_distances, alignment.compute_distances_by_timestep):
        compute(X, centroids, weights, diagonal=True, device="cpu", n_jobs=1)


# What is called in each journey.
JOURNEYS = {
    "DejaVidClassifier DejaVidClassifier.paper DejaVidClassifier.fit": Data.fit_in_all_ways,
    "DejaVidClassifier.score": lambda data: data.clf.score(data.X, data.y),
    "DejaVidClassifier.predict": lambda data: data.clf.predict(data.X),
    "DejaVidClassifier.predict_proba": lambda data: data.clf.predict_proba(data.X),
    "DejaVidClassifier.decision_function": lambda data: data.clf.decision_function(data.X),
    "DejaVidClassifier.transform": lambda data: [
        data.clf.set_params(transform_timesteps=by_timestep).transform(data.X)
        for by_timestep in (True, False)
    ],
    "DejaVidClassifier.save DejaVidClassifier.load": Data.save,
    "TimeDifferences TimeDifferences.fit TimeDifferences.transform TimeDifferences.set_output "
    "TimeDifferences.get_feature_names_out SequenceTransformer.set_output": lambda data: (
        data.transform_by(TimeDifferences())
    ),
    "Resample Resample.fit Resample.transform Resample.set_output": lambda data: [
        data.transform_by(Resample(n)) for n in (1, 7)
    ],
    "Framewise Framewise.fit Framewise.fit_transform Framewise.transform Framewise.set_output "
    "Framewise.get_feature_names_out": lambda data: data.transform_by(Framewise(StandardScaler())),
    "Interpolate Interpolate.fit Interpolate.transform Interpolate.set_output": lambda data: (
        data.transform_by(Interpolate(), data.with_missing)
    ),
    "TSEExtractor TSEExtractor.fit TSEExtractor.transform TSEExtractor.extract "
    "TSEExtractor.set_output TSEExtractor.encoder_fingerprint "
    "TSEExtractor.store_fingerprint": Data.extract,
    "StoreWriter StoreWriter.append StoreWriter.commit StoreWriter.discard_partial "
    "StoreWriter.fail StoreWriter.n_bytes StoreWriter.write_partial TSEStore TSEStore.consolidate "
    "TSEStore.create TSEStore.n_bytes TSEStore.sequences TSEStore.set_labels TSEStore.verify "
    "StoreWriter.file TSEStore.file TSEStore.write": Data.store,
    "TSEArray TSEArray.astype TSEArray.chunks TSEArray.from_packed TSEArray.from_padded "
    "TSEArray.from_aeon TSEArray.from_arrow TSEArray.from_awkward TSEArray.from_sktime "
    "TSEArray.from_tslearn TSEArray.from_long TSEArray.packed TSEArray.view TSEArray.to_aeon "
    "TSEArray.to_arrow TSEArray.to_awkward TSEArray.to_padded TSEArray.to_sktime "
    "TSEArray.to_tslearn": Data.convert,
    "read_arrow write_arrow": Data.write_arrow,
    "TimeWeightedDTW TimeWeightedDTW.forward TimeWeightedDTW.from_estimator "
    "TimeWeightedDTW.to_estimator": Data.match,
    "AlignmentDisplay AlignmentDisplay.from_estimator AlignmentDisplay.plot": Data.draw,
    "make_order_sequences make_event_sequences make_order_videos make_event_frames "
    "write_video load_japanese_vowels": Data.make,
    "dtw_distances dtw_path compute_distances compute_distances_by_timestep": align,
    "permutation_importance": lambda data: permutation_importance(
        data.clf, data.X, data.y, n_repeats=1, random_state=0
    ),
    "check_sequences read_checked": lambda data: check_sequences(data.X3),
}
# They compute nothing.
WITHOUT_NUMBERS = {
    "VideoDecodeError",
    "find_videos",
    "import_sequences",
    "show_versions",
}


@pytest.mark.fault(116)
def test_everything_public_is_called_here():
    called = {name for names in JOURNEYS for name in names.split()}
    assert {name for name, _ in public_functions()} - WITHOUT_NUMBERS - called == set()


@pytest.mark.slow
@pytest.mark.fault(116)
@pytest.mark.parametrize("names", JOURNEYS)
@pytest.mark.parametrize("scale", SCALES)
def test_nothing_fails_of_a_harmless_underflow(names, scale, tmp_path):
    data = Data(*SCALES[scale], tmp_path)
    with np.errstate(all="raise"):
        JOURNEYS[names](data)
        assert np.geterr()["under"] == "raise"


@pytest.mark.fault(116)
def test_the_error_state_is_that_of_the_caller_afterwards_and_may_be_entered_twice():
    @underflow_allowed
    def power(exponent, again=True):
        """Return a power of two, which may be too small."""
        if again:
            power(exponent, again=False)
        return np.float64(2.0) ** exponent

    with np.errstate(under="raise"):
        assert power(-2000) == 0.0
        with pytest.raises(FloatingPointError):
            np.float64(2.0) ** -2000
    assert power.__name__ == "power"
    assert power.__doc__.startswith("Return a power")


@pytest.mark.fault(116)
def test_other_errors_of_the_caller_still_count():
    """Only underflow is harmless."""
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        underflow_allowed(lambda: np.float64(1e300) * 1e300)()
