import os
import socket

import pytest

from skdejavid.files.regular import open_regular_file, refuse_irregular


def test_a_file_is_opened_by_name_and_through_a_link(tmp_path):
    (tmp_path / "x").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    for name in ("x", "link"):
        with open_regular_file(tmp_path / name) as file:
            assert file.read() == b"content"
        refuse_irregular(str(tmp_path / name))


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    for name, kind in [
        ("pipe", "a named pipe"),
        ("link", "a named pipe"),
        ("folder", "a folder"),
        ("socket", "a socket"),
        ("/dev/zero", "a character device"),
    ]:
        for check in (open_regular_file, refuse_irregular):
            with pytest.raises(ValueError, match=f"{name} is {kind}, expected a regular file"):
                check(tmp_path / name)
    server.close()


def test_a_file_that_becomes_a_pipe_after_the_check_is_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("skdejavid.files.regular.refuse_irregular", lambda path: None)
    with pytest.raises(ValueError, match="pipe is a named pipe"):
        open_regular_file(tmp_path / "pipe")
    assert not [link for link in os.listdir("/proc/self/fd") if links_to_pipe(link, tmp_path)]


def links_to_pipe(descriptor, folder):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(folder / "pipe")
    except FileNotFoundError:
        return False


def test_a_missing_file_is_reported_as_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_regular_file(tmp_path / "missing")
