import csv
import io
import json
import os
import pickle
import random
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from fuzz import mutated_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from skdejavid import DejaVidClassifier, TSEExtractor, TSEStore
from skdejavid.cli import skdejavid
from skdejavid.datasets import make_order_videos, write_video

ENCODER = """
import torch


class Colors(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor), requires_grad=False)

    def forward(self, images):
        corners = torch.nn.functional.adaptive_avg_pool2d(images, 2)
        return self.factor * corners.flatten(1)


def load(factor="1"):
    return Colors(float(factor))


def load_function(factor="1"):
    module = Colors(float(factor))
    return lambda images: module(images)
"""


def run(*arguments):
    result = CliRunner().invoke(skdejavid, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeed(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def read(table):
    return list(csv.DictReader(io.StringIO(table.read_text())))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """36 short clips in folders named after their classes, a table with a split, an encoder."""
    folder = tmp_path_factory.mktemp("cli")
    videos, y = make_order_videos(36, size=32, random_state=0)
    rows = []
    for i, (video, label) in enumerate(zip(videos, y, strict=True)):
        path = folder / "videos" / f"order {label}" / f"{i:02}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, video[::2])
        split = "test" if i >= 24 else "train"
        rows.append([path.relative_to(folder / "videos").as_posix(), f"class-{label}", split])
    (folder / "encoder.py").write_text(ENCODER)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split"], *rows])
    return folder


def encoding(folder, factor="2"):
    encoder = ["--encoder", f"{folder / 'encoder.py'}:load", "--encoder-argument", factor]
    return [*encoder, "--batch-size", 16]


WINDOWS = ["--width", 4, "--stride", 2, "--clip-length", 2, "--layout", "BCHW", "--frame-size", 32]


@pytest.fixture(scope="module")
def store(folder):
    """The store of all clips."""
    target = folder / "store"
    succeed("extract", folder / "videos", "-o", target, *encoding(folder), *WINDOWS)
    return target


@pytest.fixture(scope="module")
def table(folder):
    """Options that choose a part of the store."""

    def choose(split):
        return ["--labels", folder / "labels.csv", "--where", f"split={split}"]

    return choose


@pytest.fixture(scope="module")
def model(folder, store, table):
    """A model of the training part."""
    target = folder / "model.safetensors"
    succeed("fit", store, "-o", target, *table("train"), "--set", "n_epochs=5")
    return target


def test_a_folder_of_classes_becomes_a_labeled_store(folder, store):
    opened = TSEStore(store)
    assert opened.is_complete
    assert len(opened) == 36
    assert opened.ids == sorted(opened.ids)
    assert opened.labels.tolist() == [id.partition("/")[0] for id in opened.ids]
    namespace = {}
    exec(ENCODER, namespace)
    extractor = TSEExtractor(
        namespace["load"]("2"), width=4, stride=2, clip_length=2, layout="BCHW", frame_size=32
    )
    expected = extractor.transform([folder / "videos" / id for id in opened.ids])
    np.testing.assert_allclose(opened.sequences().frames, expected.frames, rtol=1e-6)
    np.testing.assert_array_equal(opened.sequences().spans, expected.spans)


def test_extracting_again_computes_nothing(folder, store):
    before = {path.name: path.stat().st_mtime_ns for path in store.glob("values-*")}
    succeed("extract", folder / "videos", "-o", store, *encoding(folder), *WINDOWS)
    assert {path.name: path.stat().st_mtime_ns for path in store.glob("values-*")} == before


def test_a_table_says_which_videos_and_their_labels(folder, tmp_path, table):
    target = tmp_path / "store"
    videos = folder / "videos"
    succeed("extract", videos, "-o", target, *table("test"), *encoding(folder), *WINDOWS)
    opened = TSEStore(target)
    rows = read(folder / "labels.csv")
    assert opened.ids == [row["path"] for row in rows if row["split"] == "test"]
    assert opened.labels.tolist() == [row["label"] for row in rows if row["split"] == "test"]


def test_machines_share_the_work(folder, store, tmp_path):
    target = tmp_path / "shared"
    arguments = ["extract", folder / "videos", "-o", target, *encoding(folder), *WINDOWS]
    for rank in (1, 0):
        succeed(*arguments, "--shard", f"{rank}/2")
    shared, whole = TSEStore(target), TSEStore(store)
    assert shared.is_complete
    assert shared.ids == whole.ids
    np.testing.assert_allclose(shared.sequences().frames, whole.sequences().frames, rtol=1e-6)
    assert shared.labels.tolist() == whole.labels.tolist()


def test_scores_are_those_of_the_library(folder, store, table, model):
    rows = read(folder / "labels.csv")
    part = {
        split: [(row["path"], row["label"]) for row in rows if row["split"] == split]
        for split in ("train", "test")
    }
    opened = TSEStore(store)
    X = {split: opened.sequences([id for id, _ in pairs]) for split, pairs in part.items()}
    y = {split: np.array([label for _, label in pairs]) for split, pairs in part.items()}
    clf = DejaVidClassifier(random_state=0, n_epochs=5).fit(X["train"], y["train"])
    scores = json.loads(succeed("evaluate", model, store, *table("test"), "--json").output)
    assert scores["sequences"] == 12
    assert scores["top-1 accuracy"] == clf.score(X["test"], y["test"])
    assert "top-5 accuracy" not in scores  # of 6 classes
    printed = succeed("evaluate", model, store, *table("test")).output
    assert f"top-1 accuracy        {scores['top-1 accuracy']:.4f}" in printed
    known = np.unique(y["test"])
    recalls = recall_score(y["test"], clf.predict(X["test"]), labels=known, average=None)
    told = [line for line in printed.splitlines() if line.startswith("recall")]
    assert told == [
        f"recall of {label}     {recall:.4f}" for label, recall in zip(known, recalls, strict=True)
    ]


def test_videos_are_predicted_as_their_sequences_in_a_store(folder, store, model, tmp_path):
    of_store = list(csv.DictReader(io.StringIO(succeed("predict", model, store).output)))
    assert [row["path"] for row in of_store] == TSEStore(store).ids
    target = tmp_path / "predicted.csv"
    videos = sorted((folder / "videos").rglob("*.mp4"))
    arguments = [*encoding(folder), "-o", target, "--probabilities"]
    succeed("predict", model, videos[0], folder / "videos" / "order 3", *arguments)
    of_videos = read(target)
    by_path = {row["path"]: row for row in of_store}
    assert len(of_videos) == 7
    for row in of_videos:
        id = row["path"].removeprefix(f"{folder / 'videos'}/")
        assert row["label"] == by_path[id]["label"]
        assert float(row["probability"]) == pytest.approx(float(by_path[id]["probability"]), 1e-4)
        probabilities = [float(row[f"probability of class-{k}"]) for k in range(6)]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert max(probabilities) == float(row["probability"])


def test_a_command_is_corrected_after_an_error_in_its_first_batch(folder, tmp_path):
    command = ["extract", folder / "videos" / "order 0", "-o", tmp_path, *encoding(folder)]
    result = run(*command)
    assert result.exit_code == 1
    assert "If the encoder takes single frames, set --layout BCHW" in result.stderr
    assert TSEStore(tmp_path).fingerprint["layout"] == "BCTHW"
    succeed(*command, *WINDOWS)
    assert TSEStore(tmp_path).fingerprint["layout"] == "BCHW"
    result = run(*command)
    assert result.exit_code == 1
    assert "created with different settings" in result.stderr


def test_broken_videos_are_named_and_the_rest_is_done(folder, tmp_path):
    videos = tmp_path / "videos"
    (videos / "a").mkdir(parents=True)
    good = next((folder / "videos").rglob("*.mp4"))
    (videos / "a" / "good.mp4").write_bytes(good.read_bytes())
    (videos / "a" / "broken.mp4").write_bytes(b"nothing")
    arguments = ["extract", videos, *encoding(folder), *WINDOWS]
    for policy in ("skip", "warn"):
        with warnings.catch_warnings(record=True) as caught:
            result = run(*arguments, "-o", tmp_path / policy, "--on-error", policy)
        assert caught == []
        assert result.exit_code == 3
        assert result.stderr.count("left out: a/broken.mp4: ") == 1
        assert TSEStore(tmp_path / policy).ids == ["a/good.mp4"]
    result = run(*arguments, "-o", tmp_path / "strict", "--on-error", "raise")
    assert result.exit_code == 1
    assert "broken.mp4" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "{videos}", "-o", "{new}"], "encoding videos needs --encoder"),
        (["extract", "{folder}/empty", "-o", "{new}", "--encoder", "x"], "no video in"),
        (["extract", "{videos}", "-o", "{new}", "--encoder", "{folder}/no.py:load"], "no file"),
        (
            ["extract", "{videos}", "-o", "{new}", "--encoder", "{folder}/encoder.py:no"],
            "has no no",
        ),
        (
            ["extract", "{videos}", "-o", "{new}", "--encoder", "{folder}/encoder.py"],
            "encoder.py names a file: add a function, as in",
        ),
        (
            ["extract", "{videos}", "-o", "{new}", "--encoder", "{model}"],
            "is a file, and a file of weights is no model: write a function that returns the "
            "encoder, and give --encoder FILE.py:FUNCTION",
        ),
        (
            [
                "extract",
                "{videos}",
                "-o",
                "{new}",
                "--encoder",
                "{folder}/encoder.py:load",
                "--shard",
                "1",
            ],
            "--shard",
        ),
        (
            ["extract", "{videos}", "-o", "{store}", "--encoder", "{folder}/encoder.py:load"],
            "width",
        ),
        (["fit", "{store}", "-o", "{new}", "--where", "split=train"], "--where needs --labels"),
        (
            ["fit", "{store}", "-o", "{new}", "--labels", "{table}", "--where", "part=1"],
            "no column",
        ),
        (["fit", "{store}", "-o", "{new}", "--labels", "{table}", "--where", "split=no"], "no row"),
        (["fit", "{store}", "-o", "{new}", "--set", "colour=1"], "Invalid parameter 'colour'"),
        (["fit", "{store}", "-o", "{new}/"], "new/' is the name of a folder, expected that of a f"),
        (
            ["fit", "{store}", "-o", "{new}", "--set", "n_epochs=" + "[" * 50_000],
            "... is nested too deeply",
        ),
        (["fit", "{videos}", "-o", "{new}"], "manifest.json"),
        (["evaluate", "{table}", "{store}"], "is not a skdejavid classifier"),
        (["evaluate", "{model}", "{store}"], "was not fitted with the labels"),
        (["predict", "{model}", "{videos}"], "encoding videos needs --encoder"),
        (
            ["predict", "{model}", "{videos}", "--encoder", "{folder}/encoder.py:load"],
            "which is not that of --encoder, 'Colors-",
        ),
    ],
)
def test_mistakes_are_explained_in_one_line(arguments, message, folder, store, model, tmp_path):
    (folder / "empty").mkdir(exist_ok=True)
    names = {
        "folder": folder,
        "videos": folder / "videos",
        "store": store,
        "model": model,
        "table": folder / "labels.csv",
        "new": tmp_path / "new",
    }
    result = run(*(argument.format(**names) for argument in arguments))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") <= 3


def test_an_incomplete_store_is_completed_by_extract(model, tmp_path):
    TSEStore.create(tmp_path)
    for command in (["fit", tmp_path, "-o", tmp_path / "model"], ["predict", model, tmp_path]):
        result = run(*command)
        assert result.exit_code == 1
        assert "the store " in result.stderr
        assert "interrupted. Repeat 'skdejavid extract', which completes it" in result.stderr


def test_labels_of_other_videos_are_shown_beside_those_of_the_store(store, model, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nvideos/00.mp4,a\n")
    result = run("evaluate", model, store, "--labels", table)
    assert result.exit_code == 1
    assert "none of the 1 videos of" in result.stderr
    assert "it has 'order 0/" in result.stderr
    assert "the column path has 'videos/00.mp4'. Paths must be as in the store" in result.stderr


def test_a_model_is_a_file_of_the_classifier(folder, store, table, model):
    loaded = DejaVidClassifier.load(model)
    assert loaded.get_params()["n_epochs"] == 5
    assert loaded.metadata_ == {"extraction": TSEStore(store).fingerprint}
    ids = [row["path"] for row in read(folder / "labels.csv") if row["split"] == "train"]
    X, y = TSEStore(store).sequences(ids), [f"class-{id[6]}" for id in ids]
    clf = DejaVidClassifier(random_state=0, n_epochs=5).fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


def test_a_classifier_saved_anywhere_is_evaluated_and_predicts(store, model, tmp_path):
    path = tmp_path / "plain.safetensors"
    clf = DejaVidClassifier.load(model)
    del clf.metadata_
    clf.save(path)
    assert json.loads(
        succeed("evaluate", path, store, "--labels", store.parent / "labels.csv", "--json").output
    )
    predicted = succeed("predict", path, store).output
    assert predicted == succeed("predict", model, store).output


def test_an_encoder_that_is_not_a_module_is_identified_by_a_name(folder, store, model, tmp_path):
    videos = folder / "videos" / "order 3"
    encoder = ["--encoder", f"{folder / 'encoder.py'}:load_function", "--encoder-argument", 2]
    target = tmp_path / "store"
    succeed("extract", videos, "-o", target, *encoder, "--encoder-id", "colors", *WINDOWS)
    assert TSEStore(target).fingerprint["encoder"] == "colors"
    clf = DejaVidClassifier.load(model)
    clf.save(tmp_path / "model", metadata={"extraction": TSEStore(target).fingerprint})
    succeed("predict", tmp_path / "model", videos, *encoder, "--encoder-id", "colors")
    result = run("predict", tmp_path / "model", videos, *encoder, "--encoder-id", "other")
    assert (
        "was made with the encoder 'colors', which is not that of --encoder, 'other'"
        in result.stderr
    )
    result = run("verify", target, videos, *encoder, "--encoder-id", "other")
    assert f"{target} was made with the encoder 'colors'" in result.stderr


@pytest.mark.parametrize("command", ["extract", "predict"])
def test_an_encoder_that_needs_a_name_is_refused_with_the_option_for_it(
    command, folder, model, tmp_path
):
    videos = folder / "videos" / "order 3"
    inputs = [videos, "-o", tmp_path / "new"] if command == "extract" else [model, videos]
    result = run(command, *inputs, "--encoder", f"{folder / 'encoder.py'}:load_function")
    assert result.exit_code == 1
    assert (
        "load_function returns a function, which has no fingerprint of its own: give --encoder-id"
        in (result.stderr)
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"extraction": None},
        {"extraction": {"procedure": "import of arrays", "key": None}},
        {"extraction": {"encoder": "x", "width": 4}},
    ],
)
def test_videos_need_the_settings_of_the_training_data(metadata, folder, model, tmp_path):
    path = tmp_path / "model"
    DejaVidClassifier.load(model).save(path, metadata=metadata)
    result = run("predict", path, folder / "videos", *encoding(folder))
    assert result.exit_code == 1
    assert "does not contain the settings to encode videos with" in result.stderr
    assert "Traceback" not in result.output


def test_a_model_file_sets_nothing_but_the_settings_of_clips(folder, model, tmp_path):
    clf = DejaVidClassifier.load(model)
    settings = clf.metadata_["extraction"] | {"store": str(tmp_path / "store"), "verbose": 7}
    clf.save(tmp_path / "model", metadata={"extraction": settings})
    video = next((folder / "videos").rglob("*.mp4"))
    succeed("predict", tmp_path / "model", video, *encoding(folder))
    assert not (tmp_path / "store").exists()


def test_settings_of_a_model_file_are_checked(folder, model, tmp_path):
    clf = DejaVidClassifier.load(model)
    video = next((folder / "videos").rglob("*.mp4"))
    for name, value in [
        ("width", "far"),
        ("frame_size", {"a": 1}),
        ("frame_size", [1, 2, 3]),
        ("layout", 3),
    ]:
        settings = clf.metadata_["extraction"] | {name: value}
        clf.save(tmp_path / "model", metadata={"extraction": settings})
        result = run("predict", tmp_path / "model", video, *encoding(folder))
        assert result.exit_code == 1
        assert name in result.stderr


def test_a_model_file_executes_nothing(tmp_path, store):
    class Harm:
        def __reduce__(self):
            return open, (str(tmp_path / "harmed"), "w")

    (tmp_path / "pickle").write_bytes(pickle.dumps(Harm()))
    result = run("evaluate", tmp_path / "pickle", store)
    assert result.exit_code == 1
    assert "is not a skdejavid classifier" in result.stderr
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    "command", [[], ["extract"], ["fit"], ["predict"], ["evaluate"], ["verify"]]
)
def test_help_is_there_for_every_command(command):
    printed = succeed(*command, "--help").output
    assert "Usage: " in printed
    assert all(len(line) <= 100 for line in printed.splitlines())


def test_the_commands_are_listed_on_lines_of_their_own():
    lines = [line.strip() for line in succeed("--help").output.splitlines()]
    assert "skdejavid fit store -o model.safetensors" in lines


HEAVY = "sklearn scipy numpy torch av pandas PIL transformers matplotlib tqdm safetensors"
WITHOUT_HEAVY = f"""
import sys
from skdejavid.__main__ import main

sys.argv = ["skdejavid", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print("exit", end.code)
print("loaded:", *({HEAVY.split()} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["extract", "--help"], 0),
        (["fit", "--help"], 0),
        (["predict", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["verify", "--help"], 0),
        (["demo", "--help"], 0),
        (["fly"], 2),
        (["extract", "."], 2),
        (["extract", ".", "--check-windows", "3", "-o", "store"], 2),
        (["fit", "missing", "-o", "model"], 2),
        (["verify", ".", "--encoder", "x"], 2),
    ],
)
def test_help_and_errors_of_usage_import_nothing_heavy(arguments, code, tmp_path):
    """scikit-learn alone takes more than a second, and 180 MB."""
    command = [sys.executable, "-P", "-c", WITHOUT_HEAVY, *arguments]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
    assert done.stdout.endswith(f"exit {code}\nloaded:\n"), done.stdout


def test_verify_says_that_it_encodes_again():
    described = " ".join(succeed("verify", "--help").output.split())
    assert "a sample of them (--sample) is encoded again" in described


def test_wrong_usage_has_an_exit_code_of_its_own():
    assert run("extract").exit_code == 2
    assert run("fly").exit_code == 2


@pytest.mark.fault(76, 81)
def test_rows_of_a_table_lead_nowhere_but_into_the_folder(folder, tmp_path):
    videos = folder / "videos"
    inside = next(videos.rglob("*.mp4"))
    (tmp_path / "outside.mp4").write_bytes(inside.read_bytes())
    table = tmp_path / "table.csv"
    arguments = ["extract", videos, "--labels", table, *encoding(folder), *WINDOWS]
    for path in (tmp_path / "outside.mp4", "../labels.csv"):
        table.write_text(f"path,label\n{path},x\n")
        result = run(*arguments, "-o", tmp_path / "store")
        assert result.exit_code == 1
        assert f"{table}, line 2: the path '{path}' leads out of {videos}" in result.stderr
        assert "--allow-outside" in result.stderr
        assert not (tmp_path / "store").exists()
    table.write_text(f"path,label\n{tmp_path / 'outside.mp4'},x\n")
    succeed(*arguments, "-o", tmp_path / "store", "--allow-outside")
    assert TSEStore(tmp_path / "store").ids == [str(tmp_path / "outside.mp4")]
    table.write_text("path,label\nhttp://127.0.0.1:1/a.mp4,x\n")
    result = run(*arguments, "-o", tmp_path / "other", "--on-error", "skip")
    assert result.exit_code == 3
    assert "No such file or directory" in result.stderr


@pytest.mark.fault(78)
def test_pipes_instead_of_tables_encoders_and_videos_are_refused_at_once(
    folder, store, model, tmp_path
):
    pipe = tmp_path / "pipe.py"
    os.mkfifo(pipe)
    videos, new = folder / "videos", tmp_path / "new"
    commands = [
        ["extract", videos, "-o", new, "--labels", pipe, *encoding(folder)],
        ["extract", videos, "-o", new, "--encoder", f"{pipe}:load"],
        ["fit", store, "-o", new, "--labels", pipe],
        ["evaluate", model, store, "--labels", pipe],
        ["predict", model, pipe, *encoding(folder)],
    ]
    for command in commands:
        result = run(*command)
        assert result.exit_code == 1
        assert "pipe.py is a named pipe, expected a regular file" in result.stderr


@pytest.mark.fault(83)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_size": [10**9, 32]}, "sets frame_size to a number beyond"),
        ({"frame_size": 10**400}, "sets frame_size to a number beyond"),
        ({"std": [10**400]}, "sets std to a number beyond"),
        ({"clip_length": 10**12}, "sets clip_length to a number beyond"),
        ({"width": [2**40]}, "sets width to a number beyond"),
        ({"frame_size": [4000, 4000], "clip_length": 1000}, "a clip would have 192000000000 bytes"),
        ({"mean": {"a": []}}, "must be a string or a real number"),
        ({"head": ["a"]}, "head"),
        ({"autocast": 7}, "autocast"),
        ({"features": None}, "features"),
    ],
)
def test_a_model_file_cannot_make_clips_that_fill_the_memory(
    changes, message, folder, model, tmp_path
):
    clf = DejaVidClassifier.load(model)
    stored = clf.metadata_["extraction"] | changes
    clf.save(tmp_path / "model", metadata={"extraction": stored})
    video = next((folder / "videos").rglob("*.mp4"))
    result = run("predict", tmp_path / "model", video, *encoding(folder))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")


@pytest.mark.fault(83)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15)
def test_any_metadata_of_a_model_file_end_in_predictions_or_one_line(
    seed, folder, model, tmp_path_factory
):
    rng = random.Random(seed)
    clf = DejaVidClassifier.load(model)
    extraction = dict(clf.metadata_["extraction"])
    encoder = extraction.pop("encoder")
    extraction = mutated_tree(rng, extraction) | {"encoder": encoder}
    path = tmp_path_factory.mktemp("any") / "model"
    try:
        clf.save(path, metadata={"extraction": extraction})
    except ValueError:
        return
    video = next((folder / "videos").rglob("*.mp4"))
    result = run("predict", path, video, *encoding(folder))
    assert result.exit_code in (0, 1)
    assert "Traceback" not in result.output


@pytest.mark.fault(83)
def test_what_a_model_file_says_of_another_machine_is_not_used(store, model, tmp_path):
    clf = DejaVidClassifier.load(model).set_params(device="cuda:7", n_jobs=10**9, verbose=9)
    clf.save(tmp_path / "model")
    expected = succeed("predict", model, store).output
    assert succeed("predict", tmp_path / "model", store).output == expected


@pytest.mark.fault(78)
def test_a_model_that_is_no_regular_file_is_refused_at_once(store, tmp_path):
    os.mkfifo(tmp_path / "model")
    result = run("predict", tmp_path / "model", store)
    assert result.exit_code == 1
    assert "model is a named pipe, expected a regular file" in result.stderr


@pytest.mark.fault(85)
def test_a_failed_command_leaves_the_old_files(store, model, tmp_path):
    for name in ("old.csv", "old.model"):
        (tmp_path / name).write_text("old")
    broken = tmp_path / "broken"
    broken.write_bytes(b"no model")
    assert run("predict", broken, store, "-o", tmp_path / "old.csv").exit_code == 1
    options = ("--set", "n_epochs=-1")
    assert run("fit", store, "-o", tmp_path / "old.model", *options).exit_code == 1
    for name in ("old.csv", "old.model"):
        assert (tmp_path / name).read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.fault(84, 85)
def test_an_output_that_cannot_be_written_is_found_before_the_work(store, model, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for output, message in (
        (tmp_path / "missing" / "x", "folder .*missing does not exist"),
        (tmp_path, "is a folder, expected a regular file"),
        (tmp_path / "pipe", "pipe is a named pipe, expected a regular file"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            for name in ("fit", "predict_proba"):
                patch.setattr(DejaVidClassifier, name, None)
            for arguments in (
                ("fit", store, "-o", output),
                ("predict", model, store, "-o", output),
            ):
                result = run(*arguments)
                assert result.exit_code == 1
                assert re.search(message, result.stderr)


@pytest.mark.fault(84)
def test_predictions_are_written_through_a_link_with_the_permissions_of_the_file(
    store, model, tmp_path
):
    (tmp_path / "x.csv").write_text("old")
    (tmp_path / "x.csv").chmod(0o640)
    (tmp_path / "link").symlink_to("x.csv")
    succeed("predict", model, store, "-o", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(read(tmp_path / "x.csv")) == 36
    assert (tmp_path / "x.csv").stat().st_mode & 0o777 == 0o640
    table = (tmp_path / "x.csv").read_bytes().decode()
    assert succeed("predict", model, store).output.splitlines() == table.splitlines()


@pytest.fixture
def classes(folder, tmp_path):
    """A folder with two classes of three videos each."""
    videos = sorted((folder / "videos").rglob("*.mp4"))
    for i, path in enumerate(videos[::6]):
        target = tmp_path / "videos" / f"class {i % 2}" / f"{i}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        os.utime(target, (10**9, 10**9))
    return tmp_path / "videos"


@pytest.fixture
def extract(folder, classes, tmp_path):
    """The command that extracts these videos, repeated with other options."""

    def again(*options, exit_code=0):
        target = ["extract", classes, "-o", tmp_path / "store"]
        result = run(*target, *encoding(folder), *WINDOWS, *options)
        assert result.exit_code == exit_code, result.output
        return result.stderr

    return again


def learned_from(tmp_path):
    result = succeed("fit", tmp_path / "store", "-o", tmp_path / "model", "--set", "n_epochs=1")
    return int(re.search(r"n_sequences=(\d+)", result.stdout)[1]), result.stderr


@pytest.mark.fault(136)
def test_a_video_that_moved_to_another_class_is_learned_once_with_its_new_label(
    extract, classes, tmp_path
):
    extract()
    assert learned_from(tmp_path) == (6, "")
    (classes / "class 0" / "0.mp4").rename(classes / "class 1" / "0.mp4")
    told_at_extraction = extract()
    n_learned, told = learned_from(tmp_path)
    assert n_learned == 6
    assert "'class 0/0.mp4', now 'class 1/0.mp4'" in told_at_extraction
    assert "1 sequences of" in told
    assert "have no label and are left out" in told
    labels = TSEStore(tmp_path / "store").labels_by_id
    assert labels["class 1/0.mp4"] == "class 1"
    assert "class 0/0.mp4" not in labels
    assert run("evaluate", tmp_path / "model", tmp_path / "store").exit_code == 0


@pytest.mark.fault(136)
def test_a_video_that_was_deleted_is_named_and_not_learned(extract, classes, tmp_path):
    extract()
    (classes / "class 1" / "1.mp4").unlink()
    told = extract()
    assert learned_from(tmp_path)[0] == 5
    assert "no longer listed, and fit leaves them out: 1 video(s): 'class 1/1.mp4'" in told
    assert len(TSEStore(tmp_path / "store")) == 6


@pytest.mark.fault(136)
def test_a_label_that_changed_in_the_table_is_updated_and_named(extract, tmp_path):
    table, ids = tmp_path / "table.csv", [f"class {i % 2}/{i}.mp4" for i in range(6)]
    table.write_text("\n".join(["path,label", *(f"{id},a" for id in ids)]))
    extract("--labels", table)
    table.write_text("\n".join(["path,label", f"{ids[2]},b", *(f"{id},a" for id in ids[3:])]))
    told = extract("--labels", table)
    assert learned_from(tmp_path)[0] == 4
    assert f"label changed: 1 video(s): '{ids[2]}' from 'a' to 'b'" in told
    assert f"fit leaves them out: 2 video(s): '{ids[0]}', '{ids[1]}'" in told
    labels = TSEStore(tmp_path / "store").labels_by_id
    assert sorted(labels.items()) == sorted({ids[2]: "b", **dict.fromkeys(ids[3:], "a")}.items())


@pytest.mark.fault(136)
def test_lists_can_be_added_to_each_other(extract, tmp_path):
    table, ids = tmp_path / "table.csv", [f"class {i % 2}/{i}.mp4" for i in range(6)]
    for part in (ids[:3], ids[3:]):
        table.write_text("\n".join(["path,label", *(f"{id},{id[:7]}" for id in part)]))
        assert "no longer listed" not in extract("--labels", table, "--add")
    assert learned_from(tmp_path) == (6, "")


@pytest.mark.fault(136)
def test_machines_that_share_the_work_agree_on_the_list(extract, classes, tmp_path):
    extract("--shard", "1/2")
    extract("--shard", "0/2")
    assert len(TSEStore(tmp_path / "store").labels) == 6
    (classes / "class 1" / "1.mp4").unlink()
    for shard in ("0/2", "1/2"):
        extract("--shard", shard)
    assert len(TSEStore(tmp_path / "store").labels_by_id) == 5


@pytest.mark.fault(130)
def test_what_is_no_video_of_the_user_becomes_no_class(extract, classes, tmp_path):
    video = classes / "class 0" / "0.mp4"
    for name in (".ipynb_checkpoints/0-checkpoint.mp4", "__MACOSX/class 0/a.mp4"):
        (classes / name).parent.mkdir(parents=True)
        (classes / name).write_bytes(video.read_bytes())
    (classes / "class 0" / "._0.mp4").write_bytes(b"resource fork")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "7.mp4").write_bytes(video.read_bytes())
    (classes / "linked").symlink_to(tmp_path / "elsewhere")
    told = extract()
    assert "skipped: 3 hidden file(s) and folder(s)" in told
    assert "'class 0/0.mp4' (class 0) = 'linked/7.mp4' (linked)" in told
    store = TSEStore(tmp_path / "store")
    assert set(store.labels.tolist()) == {"class 0", "class 1", "linked"}
    assert len(store) == 7


@pytest.mark.fault(130)
def test_a_video_beside_class_folders_is_named_before_and_after(extract, classes, tmp_path):
    (classes / "loose.mp4").write_bytes((classes / "class 0" / "0.mp4").read_bytes())
    told = extract()
    assert "no labels, because 1 video(s) are in no subfolder" in told
    assert run("fit", tmp_path / "store", "-o", tmp_path / "model").exit_code == 1


@pytest.mark.fault(131)
def test_failures_can_be_tried_again_and_contents_compared(extract, classes):
    (classes / "class 0" / "broken.mp4").write_bytes(b"nothing")
    for options in ([], [], ["--retry-failures"]):
        told = extract("--on-error", "skip", *options, exit_code=3)
        assert "left out: class 0/broken.mp4" in told
    (classes / "class 0" / "broken.mp4").unlink()
    extract()
    video = classes / "class 0" / "0.mp4"
    content = bytearray(video.read_bytes())
    content[-1] ^= 1
    video.write_bytes(content)
    os.utime(video, (10**9, 10**9))
    extract()
    assert "another content than when it was" in extract("--check-content", exit_code=1)


def test_a_store_is_compared_with_its_videos(extract, folder, classes, tmp_path):
    extract()
    store, options = tmp_path / "store", encoding(folder)
    assert "all checksums are right" in succeed("verify", store).stdout
    result = succeed("verify", store, classes, *options)
    assert "6 sequences agree, with differences up to" in result.stdout
    assert "2 sequences agree" in succeed("verify", store, classes, *options, "--sample", 2).stdout
    result = run("verify", store, classes, *encoding(folder, factor="3"))
    assert (result.exit_code, "not that of --encoder" in result.stderr) == (1, True)
    assert run("verify", store, classes).exit_code == 1
    (classes / "class 0" / "0.mp4").unlink()
    result = run("verify", store, classes, *options)
    assert result.exit_code == 3
    assert "not compared: class 0/0.mp4: there is no file" in result.stderr
    TSEStore.create(tmp_path / "plain")
    result = run("verify", tmp_path / "plain", classes, *options)
    assert "was not made by 'skdejavid extract'" in result.stderr


def test_names_that_are_not_in_utf_8_are_printed_as_they_are(folder, model, tmp_path):
    path = tmp_path / "caf\udce9.mp4"
    path.write_bytes(next((folder / "videos").rglob("*.mp4")).read_bytes())
    result = succeed("predict", model, tmp_path, *encoding(folder))
    assert os.fsencode(path) in result.stdout_bytes


@pytest.mark.slow
@pytest.mark.fault(126, 134)
def test_a_model_of_pictures_and_text_prepares_frames_as_in_training(folder, tmp_path):
    from families import tiny_model
    from transformers import CLIPImageProcessorPil

    name = tmp_path / "clip"
    tiny_model("clip").save_pretrained(name)
    square = {"crop_size": 32, "size": {"shortest_edge": 32}}
    CLIPImageProcessorPil(**square).save_pretrained(name)
    CLIPImageProcessorPil(**square, resample=0).save_pretrained(tmp_path / "other")
    videos, store, model = folder / "videos", tmp_path / "store", tmp_path / "model"
    succeed("extract", videos, "-o", store, "--encoder", name, "--clip-length", 2)
    assert TSEStore(store).fingerprint["processor"]["class"] == "CLIPImageProcessorPil"
    assert TSEStore(store).n_features == 16
    succeed("fit", store, "-o", model, "--set", "n_epochs=1")
    inputs = ["predict", model, videos / "order 0", "--encoder", name]
    succeed(*inputs)
    refused = run(*inputs, "--processor", tmp_path / "other")
    assert refused.exit_code == 1
    assert "has this class and size but gives other pixels. If it has other" in refused.output
    nothing = run("extract", videos, "-o", tmp_path / "b", "--encoder", tmp_path / "nowhere")
    assert nothing.exit_code == 1


def test_a_contact_sheet_is_written_and_nothing_encoded(folder, tmp_path):
    from PIL import Image

    video = next((folder / "videos").rglob("*.mp4"))
    options = [*encoding(folder), *WINDOWS]
    for source, sheet in ((video, tmp_path / "a.png"), (folder / "videos", tmp_path / "b.PNG")):
        done = succeed("extract", source, "--check", sheet, *options)
        assert re.search(r"\.mp4: 8 of \d\d+ window\(s\); encoder Colors", done.stderr)
        with Image.open(sheet) as image:
            assert image.format == "PNG"
            assert image.height > 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.PNG"]
    refused = run("extract", video, "--check", tmp_path / "a.mp4", *options)
    assert (refused.exit_code, "ends with .png" in refused.output) == (1, True)
    for wrong in ([folder / "videos"], [video, "-o", tmp_path / "store"]):
        assert run("extract", *wrong, *options).exit_code == 2
    assert not (tmp_path / "store").exists()


def test_a_contact_sheet_shows_all_windows_if_asked(folder, tmp_path):
    from PIL import Image

    video = next((folder / "videos").rglob("*.mp4"))
    given = ["extract", video, *encoding(folder), *WINDOWS, "--check"]
    store = tmp_path / "store"  # of the command without --check
    one = succeed(*given, tmp_path / "a.png", "--check-windows", 1, "-o", store).stderr
    assert not store.exists()
    n_windows = int(re.search(r": 1 of (\d+) window\(s\);", one)[1])
    all_of_them = succeed(*given, tmp_path / "b.png", "--check-windows", 10**6).stderr
    assert f": {n_windows} of {n_windows} window(s);" in all_of_them
    with Image.open(tmp_path / "a.png") as first, Image.open(tmp_path / "b.png") as second:
        assert second.height - first.height == (n_windows - 1) * (20 + 4 + 200 + 4)
    assert run(*given, tmp_path / "c.png", "--check-windows", 0).exit_code == 2


@pytest.mark.parametrize(
    "option",
    [
        ["--shard", "0/2"],
        ["--add"],
        ["--check-content"],
        ["--retry-failures"],
        ["--dtype", "float32"],
        ["--on-error", "warn"],
    ],
)
def test_options_of_the_store_do_not_go_with_a_contact_sheet(option, folder, tmp_path):
    video = next((folder / "videos").rglob("*.mp4"))
    given = ["extract", video, *encoding(folder), *WINDOWS, "--check", tmp_path / "a.png"]
    refused = run(*given, *option)
    assert refused.exit_code == 2
    assert f"{option[0]} has no effect with --check" in refused.output
    assert list(tmp_path.iterdir()) == []


def test_a_number_of_windows_needs_a_contact_sheet(folder, tmp_path):
    given = ["extract", folder / "videos", *encoding(folder), "-o", tmp_path / "store"]
    refused = run(*given, "--check-windows", 3)
    assert (refused.exit_code, "no effect without --check" in refused.output) == (2, True)
    assert list(tmp_path.iterdir()) == []
