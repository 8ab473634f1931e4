import json

import pytest

from skdejavid.store.manifest import (
    MOST_NUMBER,
    MOST_SHARDS,
    check_same_settings,
    create_manifest,
    manifest_text,
    read_manifest,
)


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    text = manifest_text("float16", {"a": [1, None]}, range(3))
    create_manifest(tmp_path / "new", text)
    content = read_manifest(tmp_path / "new")
    assert content == json.loads(text)
    assert content["fingerprint"] == {"a": [1, None]}
    assert content["shards"] == [0, 1, 2]
    create_manifest(tmp_path / "new", manifest_text("float32", None, [0]))  # keeps the first
    assert read_manifest(tmp_path / "new") == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("int8", None, [0]), "dtype must be one of"),
        (("float32", 3, [0]), "fingerprint must be a mapping, got a int"),
        (("float32", {"a": {1}}, [0]), "must contain only what JSON can store"),
        (("float32", {"a": "x" * 2**20}, [0]), "fingerprint is too large"),
    ],
)
def test_what_cannot_be_read_again_is_not_written(arguments, message):
    with pytest.raises(ValueError, match=message):
        manifest_text(*arguments)


@pytest.mark.parametrize(
    "shards", [[], [0, 0], [MOST_NUMBER + 1], [-1], ["0"], list(range(MOST_SHARDS + 1)), None]
)
def test_shards_are_few_distinct_numbers(shards, tmp_path):
    content = json.loads(manifest_text("float32", {}, [0])) | {"shards": shards}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"manifest\.json: shards is .*, expected a list"):
        read_manifest(tmp_path)


def test_differing_settings_are_all_named():
    stored = {"dtype": "float32", "shards": [0], "fingerprint": {"a": 1, "b": 2}}
    check_same_settings("store", stored, dict(stored))
    check_same_settings("store", stored, stored | {"shards": [7]})  # joined shards
    wanted = {"dtype": "float16", "shards": [0, 1], "fingerprint": {"a": 1, "c": 2}}
    with pytest.raises(ValueError, match="the store store was created with") as caught:
        check_same_settings("store", stored, wanted)
    for part in ("dtype is 'float32'", "n_shards is 1", "b is 2 in", "c is not set in"):
        assert part in str(caught.value)
