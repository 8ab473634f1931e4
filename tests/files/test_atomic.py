import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from skdejavid.files import atomic
from skdejavid.files.atomic import (
    append_bytes,
    check_target,
    read_json,
    remove_temporaries,
    replace_file,
    replace_own_file,
    write_once,
)


def die_while_replacing(path, monkeypatch):
    """Leave what a crash in the middle of replacing a file leaves."""

    def die(file):
        file.write(b"half of it")
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            replace_file(path, die)


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


@pytest.mark.fault(84)
def test_what_a_crash_left_of_replacing_is_removed_and_nothing_else(tmp_path, monkeypatch):
    theirs = (".x.json.mine.tmp", ".skdejavid-notes.tmp", "x.json.tmp", "x.json", "y.json")
    for name in theirs:
        (tmp_path / name).write_bytes(b"")
    for name in ("x.json", "y.json"):
        die_while_replacing(tmp_path / name, monkeypatch)
    left = set(os.listdir(tmp_path)) - set(theirs)
    assert len(left) == 2
    remove_temporaries(tmp_path / "x.json")
    assert len(left & set(os.listdir(tmp_path))) == 1
    remove_temporaries(tmp_path / "y.json")
    assert sorted(os.listdir(tmp_path)) == sorted(theirs)


@pytest.mark.fault(84)
def test_replacing_removes_what_crashes_left_a_day_ago(tmp_path, monkeypatch):
    path = tmp_path / "x"
    for days in (0.9, 1.1, 400):
        before = set(os.listdir(tmp_path))
        die_while_replacing(path, monkeypatch)
        (name,) = set(os.listdir(tmp_path)) - before
        written = time.time() - days * 24 * 3600
        os.utime(tmp_path / name, (written, written))
    (kept,) = (name for name in os.listdir(tmp_path) if written_within_a_day(tmp_path / name))
    for name in ("x.tmp", ".skdejavid-notes.tmp", f"{kept[:-5]}g.tmp", f"x{kept}"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (1, 1))
    die_while_replacing(tmp_path / "y", monkeypatch)
    before = set(os.listdir(tmp_path))
    replace_file(path, lambda file: file.write(b"new"))
    removed = before - set(os.listdir(tmp_path))
    assert len(removed) == 2
    assert kept not in removed
    assert all(name.startswith(kept[:28]) and name.endswith(".tmp") for name in removed)


def written_within_a_day(path):
    return path.stat().st_mtime > time.time() - 24 * 3600


@pytest.mark.fault(84)
def test_a_link_is_followed_to_the_file_to_replace(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("folder/target")
    (tmp_path / "again").symlink_to("link")
    replace_file(tmp_path / "again", lambda file: file.write(b"new"))
    assert (tmp_path / "again").is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "target").read_bytes() == b"new"
    assert os.listdir(tmp_path / "folder") == ["target"]


@pytest.mark.fault(84)
def test_a_link_to_nothing_makes_the_file_that_it_names(tmp_path):
    (tmp_path / "link").symlink_to("target")
    replace_file(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    (tmp_path / "astray").symlink_to("nowhere/target")
    with pytest.raises(FileNotFoundError, match="astray"):
        replace_file(tmp_path / "astray", lambda file: file.write(b"new"))
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="symbolic links"):
        replace_file(tmp_path / "circle", lambda file: file.write(b"new"))


@pytest.mark.fault(84)
def test_a_file_of_a_store_is_not_replaced_through_a_link(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    for name, target in (("link", "target"), ("dangling", "nothing")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(ValueError, match=f"{name} is a symbolic link"):
            replace_own_file(tmp_path / name, lambda file: file.write(b"new"))
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.fault(84)
def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    kinds = {
        "pipe": "a named pipe",
        "folder": "a folder",
        "link": "a named pipe",
        "socket": "a socket",
    }
    with suppress(PermissionError):  # of those who are no administrators
        os.mknod(tmp_path / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        kinds["device"] = "a character device"
    for name, kind in kinds.items():
        path = tmp_path / name
        before = path.stat()
        for action in (check_target, lambda path: replace_file(path, lambda file: file.write(b""))):
            with pytest.raises(ValueError, match=f"{path} is {kind}, expected a regular file"):
                action(path)
        assert path.stat().st_mode == before.st_mode
        assert path.stat().st_ino == before.st_ino
    server.close()


@pytest.mark.fault(84)
@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("/proc/self/exe", "/proc"),
        ("//proc/self/exe", "/proc"),
        ("/tmp/../proc/self/cwd/x", "/proc"),
        ("/sys/x", "/sys"),
        ("/dev/x", "/dev/x"),
        ("/dev/fd/0", "/dev/fd"),
        ("/dev/stdout", "/dev/stdout"),
        ("exe", "/proc"),
        ("./folder/again", "/proc"),
        ("folder/../processes/self/exe", "/proc"),
        ("folder/up/processes/1/root/x", "/proc"),
    ],
)
def test_no_path_leads_through_folders_of_the_system(path, step, tmp_path, monkeypatch):
    """Replacing a file through a link of /proc has replaced a running program."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "exe").symlink_to("/proc/self/exe")
    (tmp_path / "folder" / "again").symlink_to("../exe")
    (tmp_path / "folder" / "up").symlink_to("..")
    (tmp_path / "processes").symlink_to("//proc")
    # Nothing that could write runs before it is certain that the path is recognized.
    assert str(next(filter(atomic._is_of_the_system, atomic._steps(Path(path))))) == step
    with pytest.raises(ValueError, match=rf"{Path(path)} leads into /(proc|sys|dev), where"):
        check_target(Path(path))


@pytest.mark.fault(84)
def test_a_file_without_a_name_is_not_a_target(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        for _ in range(2):
            with pytest.raises(ValueError, match="leads into /dev, where the operating"):
                check_target(Path(f"/dev/fd/{file.fileno()}"))
            (tmp_path / "x").unlink(missing_ok=True)
    assert os.listdir(tmp_path) == []


def test_usual_paths_are_targets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "link").symlink_to("proc/../dev")
    for path in ("proc/x", "dev", "link", "/dev/shm/x", tmp_path / "proc" / ".." / "x"):
        assert check_target(Path(path)) == Path(os.path.realpath(path))


@pytest.mark.fault(84)
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_a_new_file_has_the_permissions_of_the_umask(umask, tmp_path):
    before = os.umask(umask)
    try:
        replace_file(tmp_path / "x", lambda file: file.write(b"new"))
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.fault(84)
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444, 0o755])
def test_a_file_that_is_replaced_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(mode)
    seen = []

    def write(file):
        seen.append(os.fstat(file.fileno()).st_mode & 0o777)
        file.write(b"new")

    replace_file(path, write)
    assert path.stat().st_mode & 0o777 == mode
    assert seen == [mode]  # also while it is written
    assert path.read_bytes() == b"new"


@pytest.mark.fault(84)
def test_the_owner_is_kept_where_it_may_be_set(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    wanted = []

    def refuse(descriptor, user, group):
        wanted.append((user, group))
        raise PermissionError

    status = path.stat()
    other = os.stat_result([*status[:4], status.st_uid + 1, status.st_gid + 2, *status[6:]])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fchown", refuse)
        patch.setattr(os, "fstat", lambda descriptor: other)  # of the new file
        replace_file(path, lambda file: file.write(b"new"))
    assert wanted == [(status.st_uid, -1), (-1, status.st_gid)]
    assert path.read_bytes() == b"new"


@pytest.mark.fault(84)
@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "x" * 251 + ".pt"])
def test_names_as_long_as_the_system_allows_can_be_written(name, tmp_path):
    for content in (b"one", b"two"):
        replace_file(tmp_path / name, lambda file, content=content: file.write(content))
        assert (tmp_path / name).read_bytes() == content
    write_once(tmp_path / name, b"three")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.fault(84, 85)
def test_errors_name_the_file_of_the_user(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for name, kind in (("missing/x", FileNotFoundError), ("file/x", NotADirectoryError)):
        for action in (replace_file, lambda path, _: check_target(path)):
            with pytest.raises(kind) as caught:
                action(tmp_path / name, lambda file: file.write(b"new"))
            assert caught.value.filename == str(tmp_path / name)
            assert ".tmp" not in str(caught.value)


@pytest.mark.fault(85)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left")])
def test_whatever_goes_wrong_the_old_file_is_untouched(error, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"new")
        raise error

    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind) as caught:
        replace_file(path, fail)
    if kind is OSError:
        assert (caught.value.errno, caught.value.filename) == (28, str(path))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


LIMITED = """
import resource, sys
from pathlib import Path
from skdejavid.files.atomic import replace_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    replace_file(Path(sys.argv[1]), lambda file: file.write(bytes(int(sys.argv[2]))))
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.fault(85)
@pytest.mark.parametrize("n_bytes", [1001, 10**6])
def test_a_limit_of_file_sizes_leaves_the_old_file(n_bytes, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    command = [sys.executable, "-P", "-c", LIMITED, str(path), str(n_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["27", str(path)]  # EFBIG
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.fault(79)
def test_json_larger_than_allowed_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b" " * 99 + b"1")
    assert read_json(path, 100) == 1
    with pytest.raises(ValueError, match=r"x\.json is damaged: it has more than 99 bytes"):
        read_json(path, 99)


@pytest.mark.fault(80)
@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000, b""])
def test_json_that_is_none_is_refused_with_its_name(content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        read_json(path)


def test_links_are_not_followed(tmp_path):
    (tmp_path / "outside.json").write_text(json.dumps({}))
    (tmp_path / "x.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(ValueError, match="is a symbolic link"):
        read_json(tmp_path / "x.json")


@pytest.mark.fault(78)
def test_json_is_read_only_from_regular_files(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(ValueError, match=r"x\.json is a named pipe"):
        read_json(tmp_path / "x.json")
