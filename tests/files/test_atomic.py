import json
import os
import threading

import pytest

from skdejavid.files.atomic import (
    append_bytes,
    read_json,
    check_own_file,
    remove_temporaries,
    replace_file,
    write_once,
)


class Reluctant:
    """A file whose ``write`` writes at most three bytes."""

    def __init__(self):
        self.content = b""

    def write(self, content):
        self.content += bytes(content[:3])
        return min(3, len(content))


def test_all_bytes_are_written_by_files_that_take_some():
    file = Reluctant()
    append_bytes(file, b"0123456789")
    assert file.content == b"0123456789"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x"
    replace_file(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"new, but the disk is f")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace_file(path, fail)
    assert path.read_bytes() == b"old"
    replace_file(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_of_others_stays(tmp_path):
    write_once(tmp_path / "x", b"first")
    write_once(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["x"]


def test_a_disk_without_links_will_do(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    write_once(tmp_path / "x", b"first")
    write_once(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["x"]


def test_of_many_who_write_once_one_succeeds_and_nobody_sees_a_part(tmp_path):
    path = tmp_path / "x"
    seen = []

    def work(number):
        write_once(path, b"%d" % number * 100_000)
        seen.append(path.read_bytes())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert set(seen) == {path.read_bytes()}
    assert len(path.read_bytes()) == 100_000


def test_what_a_crash_left_of_replacing_is_removed(tmp_path):
    for name in (".x.json.0123.tmp", ".y.json.0123.tmp", "x.json"):
        (tmp_path / name).write_bytes(b"")
    remove_temporaries(tmp_path / "x.json")
    assert sorted(os.listdir(tmp_path)) == [".y.json.0123.tmp", "x.json"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000, b""])
def test_json_that_is_none_is_refused_with_its_name(content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        read_json(path)


def test_links_are_not_followed(tmp_path):
    (tmp_path / "outside.json").write_text(json.dumps({}))
    (tmp_path / "x.json").symlink_to(tmp_path / "outside.json")
    (tmp_path / "y.npy").symlink_to(tmp_path / "none")
    for action in (
        lambda: read_json(tmp_path / "x.json"),
        lambda: check_own_file(tmp_path / "y.npy"),
    ):
        with pytest.raises(ValueError, match="is a symbolic link"):
            action()
    assert not (tmp_path / "none").exists()
