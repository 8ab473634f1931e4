import os
from pathlib import Path

import numpy as np
import pytest

from skdejavid import TSEArray, TSEStore
from skdejavid.files.identity import identify

RNG = np.random.default_rng(3)


class Extractor:
    """Reads sequences from files of bytes, in the way of a TSEExtractor."""

    def __init__(self, store="ignored", on_error="raise", shift=0.0, settings=("a", 1)):
        self.store = store
        self.on_error = on_error
        self.shift = shift
        self.settings = settings

    def get_params(self, deep=True):
        return dict(vars(self))

    def set_params(self, **parameters):
        vars(self).update(parameters)
        return self

    def __sklearn_clone__(self):
        return type(self)(**self.get_params())

    def store_fingerprint(self):
        return dict([self.settings])

    def transform(self, videos):
        assert (self.store, self.on_error) == (None, "skip")
        read = [rows_of(video) for video in videos]
        self.kept_ = np.flatnonzero([rows is not None for rows in read])
        self.failures_ = [
            type("Failure", (), {"cause": f"cannot read {video}"})
            for video, rows in zip(videos, read, strict=True)
            if rows is None
        ]
        if not len(self.kept_):
            raise ValueError("nothing is left")
        return TSEArray([rows + self.shift for rows in read if rows is not None])


def rows_of(video):
    if isinstance(video, np.ndarray):
        return video.reshape(-1, 2)
    content = Path(video).read_bytes()
    return np.frombuffer(content, np.float32).reshape(-1, 2) if len(content) % 8 == 0 else None


@pytest.fixture
def folder(tmp_path):
    """A folder of twelve sequences, each in a file of its own."""
    for i in range(12):
        path = tmp_path / "files" / f"c{i % 2}" / str(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(RNG.normal(size=(i + 1, 2)).astype(np.float32).tobytes())
        os.utime(path, (10**9, 10**9))
    return tmp_path / "files"


@pytest.fixture
def store(folder, tmp_path):
    """The store of these sequences, with ids inside of the folder."""
    store = TSEStore.create(tmp_path / "store", fingerprint={"a": 1})
    with store.write() as writer:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                n_bytes, *more = identify(path)
                id = path.relative_to(folder).as_posix()
                writer.append(id, rows_of(path), None, n_bytes, None, *more)
    return TSEStore(store.path)


def test_the_sequences_of_a_sample_agree_with_their_videos(store, folder):
    found = store.verify(Extractor(), folder, sample=5)
    assert len(found.ids) == len(set(found.ids)) == 5
    assert found.largest_difference == 0
    assert found.not_compared == {}
    assert store.verify(Extractor(), str(folder), sample=5).ids == found.ids
    assert store.verify(Extractor(), folder, sample=5, random_state=1).ids != found.ids
    assert store.verify(Extractor(), folder, sample=None).ids == store.ids
    assert store.verify(Extractor(), folder, sample=100).ids == store.ids
    by_id = {id: rows_of(folder / id) for id in store.ids}
    assert store.verify(Extractor(), by_id, sample=None).ids == store.ids
    assert store.verify().ids == []


def test_without_a_folder_ids_are_paths(store, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert len(store.verify(Extractor()).ids) == 10


def test_a_sequence_that_differs_is_named(store, folder):
    shift = 1e-2
    with pytest.raises(ValueError, match=r"12 of 12 sequences differ .* by more than tolerance=0"):
        store.verify(Extractor(shift=shift), folder, sample=None)
    largest = max(
        shift / np.abs(rows_of(folder / id) + np.float32(shift)).max() for id in store.ids
    )
    found = store.verify(Extractor(shift=shift), folder, sample=None, tolerance=1)
    assert found.largest_difference == pytest.approx(largest, rel=1e-4)
    for wrong in (rows_of(folder / "c0/0")[:, :1].repeat(4), np.full(2, np.nan, np.float32)):
        videos = {id: rows_of(folder / id) for id in store.ids} | {"c0/0": wrong}
        with pytest.raises(ValueError, match=r"1 of 12 sequences differ .*: c0/0 \((inf|nan)\)"):
            store.verify(Extractor(), videos, sample=None, tolerance=1e9)


def test_videos_that_are_missing_changed_or_broken_are_reported(store, folder):
    (folder / "c0/0").unlink()
    rows = rows_of(folder / "c0/2")
    (folder / "c0/2").write_bytes((rows + 1).tobytes())
    found = store.verify(Extractor(), folder, sample=None)
    assert len(found.ids) == 10
    assert "there is no file" in found.not_compared["c0/0"]
    assert "was changed" in found.not_compared["c0/2"]
    videos = {id: folder / id for id in store.ids if id != "c1/1"} | {"c1/3": "c1/3"}
    found = store.verify(Extractor(), videos, sample=None)
    assert found.not_compared["c1/1"] == "not in videos"
    assert found.not_compared["c1/3"] == "there is no file c1/3"


def test_that_nothing_could_be_compared_is_an_error(store, folder, tmp_path):
    with pytest.raises(ValueError, match=r"none of the videos .*there is no file .* and 5 more"):
        store.verify(Extractor(), tmp_path / "nowhere")
    broken = TSEStore.create(tmp_path / "broken", fingerprint={"a": 1})
    with broken.write() as writer:
        writer.append("c0/0", np.ones((2, 2)))
    (folder / "c0/0").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"none of the videos .*: c0/0 \(cannot read"):
        TSEStore(broken.path).verify(Extractor(), folder)
    with pytest.raises(ValueError, match="has no sequences to compare"):
        TSEStore.create(tmp_path / "empty", fingerprint={"a": 1}).verify(Extractor(), folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 0}, "sample must be at least 1"),
        ({"sample": 2.5}, "sample must be at least 1"),
        ({"tolerance": -1}, "tolerance must be a number of at least 0"),
        ({"tolerance": np.nan}, "tolerance must be a number of at least 0"),
        ({"random_state": "x"}, "cannot be used to seed"),
    ],
)
def test_impossible_samples_are_refused(options, message, store, folder):
    with pytest.raises(ValueError, match=message):
        store.verify(Extractor(), folder, **options)


def test_an_extractor_with_other_settings_is_refused(store, folder):
    with pytest.raises(ValueError, match=r"settings: a is 1 in the store, but 2"):
        store.verify(Extractor(settings=("a", 2)), folder)


def test_damaged_files_of_the_store_are_found_first(store, folder):
    path = os.path.join(store.path, "values-00000.npy")
    with open(path, "r+b") as file:
        file.seek(200)
        file.write(b"1")
    with pytest.raises(ValueError, match="the checksum of its rows has changed"):
        store.verify(Extractor(), folder)
