import os
import shutil
import socket
from pathlib import Path

import pytest

from skdejavid.files.regular import (
    open_own_file,
    open_regular_file,
    path_of_file,
    refuse_irregular,
)


def test_a_file_is_opened_by_name_and_through_a_link(tmp_path):
    (tmp_path / "x").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    for name in ("x", "link"):
        with open_regular_file(tmp_path / name) as file:
            assert file.read() == b"content"
        refuse_irregular(str(tmp_path / name))


@pytest.mark.fault(78)
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


@pytest.mark.fault(78)
def test_the_message_names_the_remedy(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="expected a regular file: write what it delivers to a fi"):
        refuse_irregular(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(ValueError, match=r"A copy of the folder by 'cp -rL' or shutil\.copytree"):
        open_own_file(tmp_path / "link")
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("pipe"))
    open_own_file(tmp_path / "copy" / "link").close()


@pytest.mark.fault(84)
@pytest.mark.parametrize("name", ["x/", "x/.", "x//", "", ".", "/"])
def test_the_name_of_a_folder_is_not_cut_to_that_of_a_file(name):
    with pytest.raises(ValueError, match="is the name of a folder, expected that of a file"):
        path_of_file(name)
    assert path_of_file("x/y.z") == path_of_file(Path("x/y.z")) == Path("x/y.z")


@pytest.mark.fault(78)
def test_a_store_reads_and_writes_only_its_own_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "outside").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("pipe", "link", "dangling"):
        kind = "a named pipe, expected a reg" if name == "pipe" else "a symbolic link: replace it"
        for mode in ("rb", "r+b", "ab", "xb"):
            with pytest.raises(ValueError, match=f"{name} is {kind}"):
                open_own_file(tmp_path / name, mode)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(ValueError, match="/dev/zero is a character device"):
        open_own_file("/dev/zero")


@pytest.mark.fault(78)
@pytest.mark.parametrize("mode", ["rb", "r+b", "ab"])
def test_a_file_of_a_store_that_is_replaced_after_the_check_is_refused_at_once(
    mode, tmp_path, monkeypatch
):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "outside").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    monkeypatch.setattr("skdejavid.files.regular.check_own_file", lambda path: None)
    with pytest.raises((ValueError, OSError), match=r"named pipe|No such device"):
        open_own_file(tmp_path / "pipe", mode)
    with pytest.raises(OSError, match="symbolic links"):
        open_own_file(tmp_path / "link", mode)


def test_a_file_of_a_store_is_created_with_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with open_own_file(tmp_path / "x", "ab", is_buffered=False) as file:
            assert file.write(b"one") == 3
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    with open_own_file(tmp_path / "x", "r+b") as file:
        file.write(b"two")
    with open_own_file(tmp_path / "x") as file:
        assert file.read() == b"two"
        assert file.name == str(tmp_path / "x")
