"""Model files: nothing is lost, every field is checked, nothing is executed."""

import json
import os
import pickle
import stat
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from traced_memory import traced_memory

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


EDITS = {
    "lists": lambda clf: {
        name: getattr(clf, name).tolist() for name in ("centroids_", "log_weights_")
    },
    "a feature that is switched off": lambda clf: {
        "log_weights_": np.where(np.arange(9) == 1, -np.inf, clf.log_weights_)
    },
    "a weight that vanishes": lambda clf: {
        "log_weights_": np.where(np.arange(9) == 1, -1e300, clf.log_weights_)
    },
    "numbers of NumPy": lambda clf: {
        "distance_scale_": np.float32(0.75),
        "n_features_in_": np.int64(3),
        "lags_": (np.int64(1), np.float64(0.1)),
        "logit_scaling_": np.str_("global"),
    },
    "arrays without dimensions": lambda clf: {"distance_scale_": np.array(0.75)},
    "another byte order": lambda clf: {
        name: getattr(clf, name).astype(getattr(clf, name).dtype.newbyteorder())
        for name in ("centroids_", "log_weights_", "classes_")
    },
    "another layout": lambda clf: {
        "centroids_": np.asfortranarray(clf.centroids_),
        "log_weights_": np.repeat(clf.log_weights_, 2, axis=2)[..., ::2],
    },
    "a history of lists": lambda clf: {
        "history_": {name: values.tolist() for name, values in clf.history_.items()}
    },
    "labels of an array of objects": lambda clf: {
        "classes_": np.array(["a", "b\0", "c"], dtype=object)
    },
}


@pytest.mark.fault(86, 108)
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_model_that_predicts_is_saved_and_predicts_the_same(tmp_path, edit):
    clf = fitted()
    vars(clf).update(edit(clf))
    X, _ = small_data()
    expected = clf.predict_proba(X)
    clf.save(tmp_path / "model")
    loaded = DejaVidClassifier.load(tmp_path / "model")
    assert_array_equal(loaded.predict_proba(X), expected, strict=True)
    for name in DejaVidClassifier._fields:
        if hasattr(clf, name):
            np.testing.assert_equal(getattr(loaded, name), getattr(clf, name))
    assert all(array.dtype.isnative for array in (loaded.centroids_, loaded.classes_))


REFUSED = {
    "NaN in centroids": (lambda clf: {"centroids_": clf.centroids_ * np.nan}, "'centroids' contai"),
    "NaN in weights": (lambda clf: {"log_weights_": clf.centroids_ * np.nan}, "'log_weights' cont"),
    "weights too large": (lambda clf: {"log_weights_": clf.centroids_ + 1e9}, "'log_weights' cont"),
    "other weights": (lambda clf: {"log_weights_": clf.centroids_[:, :2]}, "'log_weights' must"),
    "a scale of 0": (lambda clf: {"distance_scale_": 0}, "'distance_scale' must be positive"),
    "a scale of NaN": (lambda clf: {"distance_scale_": np.nan}, "distance_scale|JSON"),
    "no scale": (lambda clf: {"distance_scale_": None}, "'distance_scale' must be int or float"),
    "an unknown scaling": (lambda clf: {"logit_scaling_": "eval"}, "'logit_scaling' must"),
    "features of another number": (lambda clf: {"n_features_in_": 2}, "'centroids' must have"),
    "names of other kinds": (
        lambda clf: {"feature_names_in_": np.array([1, 2, 3], object)}, "'feature_names_in' must"
    ),
    "lags that are none": (lambda clf: {"lags_": (1.5, 0.1)}, r"lags\[0\] must be"),
    "labels that repeat": (lambda clf: {"classes_": np.array([1, 1, 2])}, "'classes' is not"),
    "labels of NaN": (lambda clf: {"classes_": np.array([0, 1, np.nan])}, "'classes' contains"),
    "labels of dates": (
        lambda clf: {"classes_": np.arange(3).astype("M8[D]")}, "classes_ has dtype datetime64"
    ),
    "labels of bytes": (lambda clf: {"classes_": np.array([b"a", b"b", b"c"])}, r"has dtype \|S1"),
    "no labels": (lambda clf: {"classes_": None}, "classes_ cannot be stored"),
    "no history": (lambda clf: {"history_": None}, "history_ cannot be stored"),
    "an unknown metric": (
        lambda clf: {"history_": clf.history_ | {"mine": [1, 2]}}, "history_ .* metric 'mine'"
    ),
    "a history of other lengths": (
        lambda clf: {"history_": clf.history_ | {"loss": [1.0]}}, "'history.accuracy' must have"
    ),
    "infinity in the history": (
        lambda clf: {"history_": clf.history_ | {"loss": [1.0, np.inf]}}, "'history.loss' contains"
    ),
    "an epoch that never was": (lambda clf: {"best_iter_": 99}, "'best_iter' must be null or"),
    "a parameter out of range": (lambda clf: {"batch_size": -1}, "'batch_size' parameter"),
    "an infinite parameter": (lambda clf: {"max_time": np.inf}, "parameter max_time contains inf"),
    "a parameter of any type": (lambda clf: {"device": [object()]}, "device contains a object"),
    "another generator": (
        lambda clf: {"random_state": np.random.RandomState(np.random.PCG64(0))},
        "random_state draws from PCG64",
    ),
}  # fmt: skip


@pytest.mark.fault(86, 87)
@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED)
def test_what_could_not_be_loaded_is_refused_before_anything_is_written(tmp_path, edit, message):
    clf = fitted()
    clf.save(tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    vars(clf).update(edit(clf))
    with pytest.raises(ValueError, match=message):
        clf.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


NUMBERS = st.sampled_from([0.5, -1.0, 1e-300, -1e300, 1e300, np.inf, -np.inf, np.nan])
DTYPES = st.sampled_from(["f4", "f8", ">f4", ">f8"])
KINDS = (int, float, np.int8, np.uint64, np.float16, np.float64, np.array, bool, str)


def changed(array, index, value, dtype):
    with np.errstate(over="ignore"):
        array = array.astype(dtype)
        array.flat[index] = value
    return array


@pytest.mark.fault(86, 87, 108)
@given(
    edits=st.fixed_dictionaries(
        {},
        optional={
            name: st.tuples(st.integers(0, 80), NUMBERS, DTYPES)
            for name in ("centroids_", "log_weights_")
        },
    ),
    dtype=DTYPES,
    scalars=st.dictionaries(
        st.sampled_from(["distance_scale_", "best_iter_", "batch_size", "temperature", "n_jobs"]),
        st.tuples(st.sampled_from(KINDS), st.integers(0, 3)).map(lambda pair: pair[0](pair[1])),
    ),
    labels=st.none()
    | st.lists(st.text(max_size=3), min_size=3, max_size=3, unique=True).map(sorted)
    | st.lists(st.integers(-(2**63), 2**64 - 1), min_size=3, max_size=3, unique=True).map(sorted),
    kind_of_labels=st.sampled_from([None, object]),
)
def test_what_is_saved_is_loaded_as_it_was(
    tmp_path_factory, edits, dtype, scalars, labels, kind_of_labels
):
    path = tmp_path_factory.mktemp("any") / "model"
    clf = fitted()
    for name in ("centroids_", "log_weights_"):
        setattr(clf, name, getattr(clf, name).astype(dtype))
    for name, (index, value, other) in edits.items():
        setattr(clf, name, changed(getattr(clf, name), index, value, other))
    vars(clf).update(scalars)
    if labels is not None:
        clf.classes_ = np.array(labels, dtype=kind_of_labels)
    try:
        clf.save(path)
    except ValueError:
        assert not path.exists()
        return
    loaded = DejaVidClassifier.load(path)
    for name in [*clf.get_params(), *DejaVidClassifier._fields]:
        if hasattr(clf, name):
            np.testing.assert_equal(getattr(loaded, name), getattr(clf, name), err_msg=name)
    X, _ = small_data()
    assert results_of(loaded, X) == results_of(clf, X)


def results_of(clf, X):
    """Return the bytes of what a model predicts, or why it cannot."""
    try:
        return clf.predict_proba(X).tobytes(), clf.predict(X).tolist()
    except ValueError as error:
        return str(error)


@pytest.mark.fault(82)
def test_a_place_is_not_written_to_a_file(tmp_path):
    clf = fitted(checkpoint_dir=tmp_path / "checkpoints")
    clf.save(tmp_path / "model")
    assert str(tmp_path).encode() not in (tmp_path / "model").read_bytes()
    assert DejaVidClassifier.load(tmp_path / "model").checkpoint_dir is None
    assert clf.checkpoint_dir == tmp_path / "checkpoints"


@pytest.mark.fault(82)
@pytest.mark.parametrize("version", [1, 2])
def test_a_place_in_a_file_is_ignored_with_a_word(tmp_path, model_file, version):
    victim = tmp_path / "victim"
    for parameters in ({"checkpoint_dir": str(victim)}, {"checkpoint_dir": None}):

        def change(header, description, body, parameters=parameters):
            description["parameters"] |= parameters
            return assembled(header, description | {"format_version": version}, body)

        (tmp_path / "model").write_bytes(change(*parts_of(model_file)))
        if parameters["checkpoint_dir"] is None:
            loaded = DejaVidClassifier.load(tmp_path / "model")
        else:
            message = r"model sets checkpoint_dir, which is not taken from a file: set it again"
            with pytest.warns(UserWarning, match=message):
                loaded = DejaVidClassifier.load(tmp_path / "model")
        assert loaded.checkpoint_dir is None
        loaded.fit(*small_data())
        assert not victim.exists()


@pytest.mark.fault(78)
def test_a_model_is_read_only_from_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "pipe", "a named pipe"),
        (tmp_path, "a folder"),
        ("/dev/zero", "a character device"),
    ):
        with pytest.raises(ValueError, match=f"is {kind}, expected a regular file"):
            DejaVidClassifier.load(path)


@pytest.mark.fault(84)
def test_a_model_is_written_with_the_permissions_of_any_file(tmp_path):
    before = os.umask(0o022)
    try:
        fitted().save(tmp_path / "model")
        assert (tmp_path / "model").stat().st_mode & 0o777 == 0o644
        (tmp_path / "link").symlink_to("model")
        (tmp_path / "model").chmod(0o640)
        fitted(n_epochs=1).save(tmp_path / "link")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o640
    assert DejaVidClassifier.load(tmp_path / "model").n_epochs == 1
    fitted().save(tmp_path / ("x" * 255))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is a named pipe, expected a regular file"):
        fitted().save(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


LIMITED = """
import resource, sys
import numpy as np
from skdejavid import DejaVidClassifier
X = np.random.default_rng(0).normal(size=(6, 5, 4))
clf = DejaVidClassifier(n_epochs=2, n_timesteps=2000).fit(X, [0, 1, 2] * 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    clf.save(sys.argv[1])
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.slow
@pytest.mark.fault(85)
def test_a_limit_of_file_sizes_is_an_error_and_leaves_the_old_model(tmp_path):
    path = tmp_path / "model"
    fitted().save(path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-P", "-c", LIMITED, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["27", str(path)]
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


@pytest.mark.fault(87)
def test_a_label_that_numpy_would_cut_is_refused(tmp_path, model_file):
    r"""In a file of strings, "a" and "a\0" would become one class."""
    labels = {"type": "strings", "labels": ["a", "a\0", "b"]}
    change = with_description(classes=labels)
    path = tmp_path / "model"
    path.write_bytes(change(*parts_of(model_file)))
    with pytest.raises(ValueError, match="'classes' contains a label that ends with a null"):
        DejaVidClassifier.load(path)
    path.write_bytes(with_description(classes=labels | {"type": "objects"})(*parts_of(model_file)))
    assert DejaVidClassifier.load(path).classes_.tolist() == ["a", "a\0", "b"]


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
    "a scale of no feature": (
        with_header("feature_scale", shape=[8], data_offsets=[0, 64]), "header"
    ),
    "NaN in scales": (with_number("feature_scale", 0, np.nan), "'feature_scale' contains NaN"),
    "a scale that is not positive": (
        with_number("feature_scale", 0, 0.0), "'feature_scale' must be positive"
    ),
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
    "a generator that is none": (
        with_parameter("random_state", {"position": 0}), "'random_state' is"
    ),
    "a generator out of its state": (
        with_parameter("random_state", {"position": 10**9, "has_gauss": 0, "gauss": 0.0}),
        "'random_state'",
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
    with traced_memory() as traced, pytest.raises(ValueError, match=message) as caught:
        DejaVidClassifier.load(path)
    assert str(path) in str(caught.value)
    assert traced.peak <= 2 * path.stat().st_size + 2**18


@pytest.mark.fault(55)
def test_a_large_hostile_file_takes_no_more_than_twice_its_size(tmp_path, model_file):
    """The fault is found in the headers, before an array is read."""
    _, description, _ = parts_of(model_file)
    n_bytes = 64 * 2**20
    arrays = {"centroids": {"dtype": "F64", "shape": [n_bytes // 8], "data_offsets": [0, n_bytes]}}
    path = tmp_path / "large"
    path.write_bytes(assembled(arrays, description, bytes(n_bytes)))
    with traced_memory() as traced, pytest.raises(ValueError, match="'classes' is missing"):
        DejaVidClassifier.load(path)
    assert traced.peak < 2**20


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
    assert again.parameters == model.parameters
    assert model.parameters | {"checkpoint_dir": None} == clf.get_params()
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
