"""Model files: nothing is lost, every field is checked, nothing is executed."""

import json
import pickle
import struct
import tracemalloc
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from skdejavid import DejaVidClassifier, TSEArray
from skdejavid.files.model_file import Model, read_model, write_model

GOLDEN = Path(__file__).parents[1] / "golden"


def small_data(dtype=np.float64):
    rng = np.random.default_rng(0)
    X = [rng.integers(-8, 8, size=(n, 3)).astype(dtype) for n in range(3, 12)]
    return X, np.arange(9) % 3


def fitted(y=None, dtype=np.float64, **parameters):
    X, labels = small_data(dtype)
    parameters = {"n_epochs": 2, "n_timesteps": 3, "random_state": 0} | parameters
    return DejaVidClassifier(**parameters).fit(X, labels if y is None else y[labels])


def assert_same_model(actual, expected):
    for name, value in vars(expected).items():
        mine = getattr(actual, name)
        if isinstance(value, np.ndarray):
            assert_array_equal(mine, value, strict=True)
        elif isinstance(value, dict) and name.endswith("_"):
            assert mine.keys() == value.keys()
            for key in value:
                assert_array_equal(mine[key], value[key], strict=True)
        elif isinstance(value, np.random.RandomState):
            assert_array_equal(mine.randint(0, 2**31, 9), value.randint(0, 2**31, 9))
        else:
            assert mine == value
            assert type(mine) is type(value)
    assert vars(actual).keys() == vars(expected).keys()


LABELS = {
    "integers": np.array([-3, 0, 7]),
    "small integers": np.array([0, 1, 2], np.uint8),
    "floats": np.array([0.0, 1.0, 2.0]),
    "strings": np.array(["a", "bbb", "ä\U0001f600"]),
    "objects": np.array(["a", "bbb", "c"], dtype=object),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loaded_model_is_the_one_that_was_saved(tmp_path, labels, dtype):
    clf = fitted(labels, dtype)
    clf.save(tmp_path / "model")
    loaded = DejaVidClassifier.load(tmp_path / "model")
    assert_same_model(loaded, clf)
    X, _ = small_data(dtype)
    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert_array_equal(loaded.predict(X), clf.predict(X))


def test_two_classes_of_booleans_are_kept(tmp_path):
    X, y = small_data()
    clf = DejaVidClassifier(n_epochs=1).fit(X, y > 0)
    clf.save(tmp_path / "model")
    assert_array_equal(DejaVidClassifier.load(tmp_path / "model").classes_, [False, True])


@pytest.mark.parametrize(
    "parameters",
    [
        {"differences": None},
        {"differences": [1, 0.25]},
        {"differences": np.array([1, 2])},
        {"differences": (np.int64(1), np.float64(0.25))},
        {"logit_scaling": "sample", "standardize": False},
        {"early_stopping": True, "validation_fraction": 0.34, "n_iter_no_change": 1},
        {"class_weight": {0: 2.5, 1: 1, 2: 3}},
        {"class_weight": {}},
        {"class_weight": "balanced"},
        {"learn_weights": False, "learn_centroids": False},
        {"n_timesteps": np.int64(4), "learning_rate": np.float64(0.01), "diagonal": np.bool_(True)},
    ],
    ids=str,
)
def test_every_parameter_is_kept(tmp_path, parameters):
    clf = fitted(**parameters)
    clf.save(tmp_path / "model")
    loaded = DejaVidClassifier.load(tmp_path / "model")
    for name, value in clf.get_params().items():
        kept = list(value) if isinstance(value, (tuple, np.ndarray)) else value
        assert getattr(loaded, name) == kept
    loaded.set_params(**clf.get_params())  # NumPy's scalars are read as Python's
    assert_same_model(loaded, clf)


def test_a_random_generator_goes_on_where_it_was(tmp_path):
    generator = np.random.RandomState(5)
    generator.standard_normal(3)  # the generator keeps a second number for the next call
    clf = fitted(random_state=generator)
    clf.save(tmp_path / "model")
    assert_same_model(DejaVidClassifier.load(tmp_path / "model"), clf)


def test_names_of_features_are_kept(tmp_path):
    pandas = pytest.importorskip("pandas")
    X, y = small_data()
    frames = [pandas.DataFrame(x, columns=["left", "right", "°"]) for x in X]
    clf = DejaVidClassifier(n_epochs=1).fit(frames, y)
    clf.save(tmp_path / "model")
    loaded = DejaVidClassifier.load(tmp_path / "model")
    assert_array_equal(loaded.feature_names_in_, ["left", "right", "°"])
    assert_array_equal(loaded.predict(frames), clf.predict(frames))


@pytest.mark.fault(94)
def test_a_flag_is_true_false_or_unknown(tmp_path):
    path = tmp_path / "x.safetensors"
    clf = fitted()
    for value in (True, False, None):
        clf.single_frames_in_ = value
        clf.save(path)
        assert DejaVidClassifier.load(path).single_frames_in_ is value
    path.write_bytes(without("single_frames_in")(*parts_of(path)))
    assert DejaVidClassifier.load(path).single_frames_in_ is None
    path.write_bytes(with_description(single_frames_in=1)(*parts_of(path)))
    with pytest.raises(ValueError, match="single_frames_in"):
        DejaVidClassifier.load(path)


def test_labels_that_json_does_not_have_are_refused_before_anything_is_written(tmp_path):
    clf = fitted()
    clf.classes_ = np.array([0, "a", None], dtype=object)
    with pytest.raises(ValueError, match="classes_ of dtype object contains a int"):
        clf.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.fault(53)
def test_models_of_version_1_are_read_forever():
    """A file written by version 0.1.0 gives the same results in later versions."""
    clf = DejaVidClassifier.load(GOLDEN / "classifier-1.safetensors")
    expected = json.loads((GOLDEN / "classifier-1.json").read_text())
    assert clf.classes_.tolist() == expected["classes"]
    assert clf.n_timesteps == 3
    assert clf.class_weight == {"b": 2.0}
    X, _ = small_data()
    np.testing.assert_allclose(clf.transform(X), expected["distances"], rtol=1e-12)
    np.testing.assert_allclose(clf.predict_proba(X), expected["probabilities"], rtol=1e-9)
    assert clf.history_["loss"].tolist() == expected["loss"]


# --- hostile files -------------------------------------------------------------------------------


def parts_of(path):
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["skdejavid"]), content[8 + length :]


def assembled(header, description, body):
    """Return the bytes of a file with valid checksums, which a forger can compute."""
    for name, fields in header.items():
        if "data_offsets" in fields:
            content = body[slice(*fields["data_offsets"])]
            description["checksums"][name] = sha256(content).hexdigest()
    text = json.dumps(description)
    header["__metadata__"] = {
        "skdejavid": text,
        "skdejavid checksum": sha256(text.encode()).hexdigest(),
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def with_description(**fields):
    return lambda header, description, body: assembled(header, description | fields, body)


def without(field):
    def change(header, description, body):
        del description[field]
        return assembled(header, description, body)

    return change


def with_parameter(name, value):
    def change(header, description, body):
        description["parameters"][name] = value
        return assembled(header, description, body)

    return change


def with_header(name, **fields):
    def change(header, description, body):
        header[name] |= fields
        return assembled(header, description, body)

    return change


def without_array(name):
    """Return a change that removes an array and moves those after it."""

    def change(header, description, body):
        begin, end = header.pop(name)["data_offsets"]
        for fields in header.values():
            offsets = fields.get("data_offsets", [0, 0])
            if offsets[0] >= end:
                fields["data_offsets"] = [offset - (end - begin) for offset in offsets]
        return assembled(header, description, body[:begin] + body[end:])

    return change


def with_number(name, index, value):
    def change(header, description, body):
        begin, end = header[name]["data_offsets"]
        kind = {"F64": "<f8", "I64": "<i8"}[header[name]["dtype"]]
        array = np.frombuffer(body[begin:end], kind).copy()
        array[index] = value
        return assembled(header, description, body[:begin] + array.tobytes() + body[end:])

    return change


def with_length(length):
    def change(header, description, body):
        return struct.pack("<Q", length) + assembled(header, description, body)[8:]

    return change


HOSTILE = {
    "a header larger than the file": (with_length(2**62), "not a skdejavid classifier"),
    "a header larger than is allowed": (with_length(2**27), "not a skdejavid classifier"),
    "a header of no bytes": (with_length(0), "header"),
    "a header cut short": (with_length(40), "header"),
    "a huge shape": (with_header("centroids", shape=[2**40, 2**40, 2**40]), "header"),
    "a shape larger than its bytes": (with_header("centroids", shape=[3, 3, 10]), "header"),
    "a negative size": (with_header("centroids", shape=[-3, -3, 9]), "header"),
    "another order of sizes": (with_header("centroids", shape=[9, 3, 3]), "'centroids' must have"),
    "a flat array": (with_header("centroids", shape=[81]), "'centroids' must have shape"),
    "no time steps": (
        with_header("centroids", shape=[3, 0, 9], data_offsets=[0, 0]), "header"
    ),
    "numbers of another type": (with_header("centroids", dtype="I64"), "'centroids' must be float"),
    "half as wide numbers": (with_header("centroids", dtype="F32"), "header"),
    "two arrays in one place": (with_header("log_weights", data_offsets=[0, 648]), "header"),
    "offsets backwards": (with_header("centroids", data_offsets=[648, 0]), "header"),
    "offsets beyond the end": (with_header("centroids", data_offsets=[0, 2**40]), "header"),
    "weights of another shape": (
        with_header("log_weights", shape=[3, 9, 3]), "'log_weights' must have shape"
    ),
    "no centroids": (without_array("centroids"), "'centroids' is missing"),
    "no weights": (without_array("log_weights"), "'log_weights' is missing"),
    "no classes": (without_array("classes"), "'classes' is missing"),
    "no history": (without_array("history.loss"), "'history.loss' is missing"),
    "NaN in centroids": (with_number("centroids", 5, np.nan), "'centroids' contains NaN"),
    "infinity in centroids": (with_number("centroids", 80, -np.inf), "'centroids' contains NaN"),
    "NaN in weights": (with_number("log_weights", 0, np.nan), "'log_weights' contains NaN"),
    "a weight that overflows": (with_number("log_weights", 0, 1e300), "'log_weights' contains a"),
    "a weight that vanishes": (with_number("log_weights", 0, -1e300), "'log_weights' contains a"),
    "NaN in the history": (with_number("history.loss", 0, np.nan), "'history.loss' contains NaN"),
    "a history of other lengths": (
        with_header("history.accuracy", shape=[1, 2]), "'history.accuracy' must have shape"
    ),
    "classes that repeat": (with_number("classes", 1, 0), "'classes' is not sorted"),
    "classes out of order": (with_number("classes", 0, 5), "'classes' is not sorted"),
    "one label more": (
        with_description(classes={"type": "strings", "labels": list("abcd")}), "'centroids' must"
    ),
    "labels that are no strings": (
        with_description(classes={"type": "strings", "labels": ["a", 1, None]}),
        "'classes' must contain only",
    ),
    "labels that are objects of a class": (
        with_description(classes={"type": "os.system", "labels": ["ls"]}), "'classes' has the"
    ),
    "no labels": (with_description(classes={"type": "strings", "labels": []}), "'classes' is"),
    "a number of features that does not fit": (
        with_description(n_features_in=4), "'centroids' must have shape"
    ),
    "a huge number of features": (
        with_description(n_features_in=10**18), "'centroids' must have shape"
    ),
    "no features": (with_description(n_features_in=0), "'n_features_in' must be at least 1"),
    "features that are no number": (with_description(n_features_in="3"), "'n_features_in' must"),
    "lags that do not fit": (with_description(lags=[1, 0.1, 0.2]), "'centroids' must have shape"),
    "lags that are none": (with_description(lags=[-1, -2]), r"lags\[0\] must be"),
    "lags that are no numbers": (with_description(lags=["1", [2]]), "'lags' contains '1'"),
    "an unknown scaling": (with_description(logit_scaling="eval"), "'logit_scaling' must"),
    "a scale of 0": (with_description(distance_scale=0), "'distance_scale' must be positive"),
    "a scale that is no number": (with_description(distance_scale="1"), "'distance_scale' must"),
    "a best epoch that never was": (with_description(best_iter=99), "'best_iter' must be"),
    "too few names": (with_description(feature_names_in=["a"]), "'feature_names_in' has 1"),
    "names that are none": (with_description(feature_names_in=[1, 2, 3]), "'feature_names_in'"),
    "an unknown parameter": (with_parameter("__class__", "x"), "__class__"),
    "a parameter out of range": (with_parameter("batch_size", -1), "batch_size"),
    "a parameter of another type": (with_parameter("n_epochs", [[1]]), "n_epochs"),
    "pairs that are none": (
        with_parameter("class_weight", {"pairs": [[1, 2, 3]]}), "'class_weight' has a pair"
    ),
    "a label that is a list": (
        with_parameter("class_weight", {"pairs": [[[], 1]]}), "'class_weight' has a pair"
    ),
    "a generator without a state": (
        with_parameter("random_state", {"position": 0, "has_gauss": 0, "gauss": 0.0}),
        "'random_state' is missing",
    ),
    "a generator out of its state": (
        with_parameter("random_state", {"position": 10**9, "has_gauss": 0, "gauss": 0.0}),
        "'random_state' has position",
    ),
    "no parameters": (without("parameters"), "'parameters' is missing"),
    "a newer format": (with_description(format_version=3), "format_version is 3"),
    "another thing": (with_description(format="store"), "'format' is not 'classifier'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    fitted().save(path)
    return path


@pytest.mark.fault(55)
@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_with_the_name_of_its_field(
    tmp_path, model_file, change, message
):
    path = tmp_path / "hostile"
    path.write_bytes(change(*parts_of(model_file)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            DejaVidClassifier.load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak <= 2 * path.stat().st_size + 2**18


@pytest.mark.fault(55)
def test_a_large_hostile_file_takes_no_more_than_twice_its_size(tmp_path, model_file):
    """The fault is found in the headers, before an array is read."""
    _, description, _ = parts_of(model_file)
    n_bytes = 64 * 2**20
    arrays = {"centroids": {"dtype": "F64", "shape": [n_bytes // 8], "data_offsets": [0, n_bytes]}}
    path = tmp_path / "large"
    path.write_bytes(assembled(arrays, description, bytes(n_bytes)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="'classes' is missing"):
        DejaVidClassifier.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.fault(54)
def test_a_file_cut_off_anywhere_is_refused(tmp_path, model_file):
    content = model_file.read_bytes()
    header, _, body = parts_of(model_file)
    begin = len(content) - len(body)
    limits = {begin + offset for name in header for offset in header[name].get("data_offsets", [])}
    path = tmp_path / "short"
    for n_bytes in sorted({0, 4, 8, 9, begin // 2, begin - 1, *limits, *(n - 1 for n in limits)}):
        path.write_bytes(content[:n_bytes])
        if n_bytes < len(content):
            with pytest.raises(ValueError, match=r"corrupt|not a skdejavid"):
                DejaVidClassifier.load(path)
    path.write_bytes(content + b"x")
    with pytest.raises(ValueError, match="corrupt"):
        DejaVidClassifier.load(path)


@pytest.mark.fault(56)
def test_a_pickle_by_the_name_of_a_model_is_not_executed(tmp_path):
    class Harm:
        def __reduce__(self):
            return open, (str(tmp_path / "harmed"), "w")

    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ValueError, match="is not a skdejavid classifier"):
        DejaVidClassifier.load(tmp_path / "model.safetensors")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.fault(54)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(tmp_path_factory, model_file, position, bit):
    content = bytearray(model_file.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"corrupt|not a skdejavid"):
        DejaVidClassifier.load(path)


def test_the_fields_of_a_model_are_those_that_are_read(tmp_path):
    X, y = small_data()
    clf = DejaVidClassifier(n_epochs=1).fit(TSEArray(X), y)
    clf.save(tmp_path / "model")
    form = {"kind": "classifier", "fields": DejaVidClassifier._fields}
    model = read_model(tmp_path / "model", **form)
    write_model(tmp_path / "again", model, **form, version="0")
    again = read_model(tmp_path / "again", **form)
    assert isinstance(again, Model)
    assert again.parameters == model.parameters == clf.get_params()
    assert again.attributes.keys() == model.attributes.keys() == DejaVidClassifier._fields.keys()


def test_metadata_that_json_cannot_store_are_refused_before_anything_is_written(tmp_path):
    clf = fitted()
    for value in (object(), float("nan")):
        with pytest.raises(ValueError, match="metadata must contain only what JSON can store"):
            clf.save(tmp_path / "m", metadata={"a": value})
    with pytest.raises(ValueError, match=r"metadata, the description has 5\d{6} bytes"):
        clf.save(tmp_path / "m", metadata={"a": "x" * 5_000_000})
    assert not (tmp_path / "m").exists()


def nested(value, n_levels):
    for _ in range(n_levels):
        value = [{"a": value}]
    return value


@pytest.mark.parametrize("n_levels", [50, 10_000])
def test_metadata_that_are_nested_too_deeply_are_refused(n_levels, tmp_path):
    clf = fitted()
    with pytest.raises(ValueError, match="metadata is nested deeper than 100 levels"):
        clf.save(tmp_path / "m", metadata={"a": nested(1, n_levels)})
    clf.save(tmp_path / "m", metadata={"a": nested(1, 49)})
    assert DejaVidClassifier.load(tmp_path / "m").metadata_ == {"a": nested(1, 49)}


@pytest.mark.parametrize("key", [1, None, True, 0.5])
def test_keys_of_metadata_that_would_come_back_as_strings_are_refused(key, tmp_path):
    clf = fitted()
    for metadata in ({key: 1}, {"a": [{"b": ({key: 1},)}]}):
        with pytest.raises(ValueError, match=f"metadata has the key {key!r}, which"):
            clf.save(tmp_path / "m", metadata=metadata)


@pytest.mark.parametrize("warm_start", [False, True])
def test_fitting_forgets_the_metadata_of_the_file(tmp_path, warm_start):
    clf = fitted(warm_start=warm_start)
    clf.save(tmp_path / "m", metadata={"a": 1})
    loaded = DejaVidClassifier.load(tmp_path / "m").fit(*small_data())
    assert not hasattr(loaded, "metadata_")


@pytest.mark.fault(53)
@pytest.mark.parametrize("value", ["eval", [1], None])
def test_an_old_file_with_an_unknown_scaling_is_refused(tmp_path, value):
    old = GOLDEN / "classifier-0.1.0-layer.safetensors"
    (tmp_path / "m").write_bytes(with_description(normalization=value)(*parts_of(old)))
    with pytest.raises(ValueError, match="'logit_scaling' must be"):
        DejaVidClassifier.load(tmp_path / "m")
    (tmp_path / "m").write_bytes(with_description(parameters=value)(*parts_of(old)))
    with pytest.raises(ValueError, match="'parameters' must be dict"):
        DejaVidClassifier.load(tmp_path / "m")


def test_metadata_comes_back_and_is_kept_by_the_next_save(tmp_path):
    clf = fitted()
    clf.save(tmp_path / "m", metadata={"extraction": {"width": [0.2, "1s"], "size": None}})
    loaded = DejaVidClassifier.load(tmp_path / "m")
    assert loaded.metadata_ == {"extraction": {"width": [0.2, "1s"], "size": None}}
    loaded.save(tmp_path / "again")
    assert DejaVidClassifier.load(tmp_path / "again").metadata_ == loaded.metadata_
    clf.save(tmp_path / "m")
    assert not hasattr(DejaVidClassifier.load(tmp_path / "m"), "metadata_")
