import errno
import os

import av
import numpy as np
import pytest

from skdejavid import VideoDecodeError
from skdejavid.files.identity import FileIdentity, identify
from skdejavid.video.opening import RefusedVideoError
from skdejavid.video.sources import as_sources
from skdejavid.video.unchanged import is_of_the_file, read_unchanged


@pytest.fixture
def file(tmp_path):
    """A file that was written long ago."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    os.utime(path, (10**9, 10**9))
    return str(path)


def source_of(video):
    return as_sources([video])[0]


def test_items_come_after_what_identifies_their_file(file):
    for has_content, first in ((True, identify(file)), (False, FileIdentity(5, 10**18))):
        items = list(
            read_unchanged(source_of(file), lambda path: iter(path[-3:]), has_content=has_content)
        )
        assert items == [first, "m", "p", "4"]
    array = np.zeros((1, 2, 2, 3), np.uint8)
    source = source_of(array)
    for has_content, content in ((True, source.hash_of_array()), (False, None)):
        items = list(read_unchanged(source, lambda v: iter([len(v)]), has_content=has_content))
        assert items == [FileIdentity(12, None, content), 1]


@pytest.mark.fault(131)
@pytest.mark.parametrize("error", [None, VideoDecodeError("cut short"), RefusedVideoError("short")])
@pytest.mark.parametrize("content", [b"123456", b"54321", None])
def test_a_file_that_changes_while_it_is_read_is_an_error(error, content, file):
    def read(path):
        yield 1
        if content is None:
            os.unlink(path)
        else:
            with open(path, "wb") as opened:
                opened.write(content)
        if error is not None:
            raise error

    with pytest.raises(VideoDecodeError, match=r"a\.mp4: the file was changed while it") as caught:
        list(read_unchanged(source_of(file), read, has_content=True))
    assert caught.value.__cause__ is error
    assert not is_of_the_file(caught.value)


def test_errors_of_a_file_that_does_not_change_are_its_own(file):
    def read(path):
        raise VideoDecodeError("cut short", 7)
        yield

    with pytest.raises(VideoDecodeError, match="cut short"):
        list(read_unchanged(source_of(file), read, has_content=True))


def test_a_file_that_cannot_be_read_leaves_the_error_to_the_reader(tmp_path):
    missing = str(tmp_path / "nowhere.mp4")
    items = list(read_unchanged(source_of(missing), lambda path: iter("a"), has_content=True))
    assert items == [FileIdentity(), "a"]


def caused_by(cause):
    try:
        raise VideoDecodeError("a.mp4: broken") from cause
    except VideoDecodeError as error:
        return error


@pytest.mark.fault(131)
@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "missing"),
        RefusedVideoError("is shorter than a window"),
        caused_by(PermissionError(errno.EACCES, "not allowed")),
        caused_by(OSError(errno.EIO, "network")),
        caused_by(OSError(errno.ESTALE, "network")),
        caused_by(OSError(errno.EMFILE, "too many open files")),
        caused_by(av.FFmpegError(errno.ENOMEM, "no memory")),
        caused_by(caused_by(OSError(errno.EIO, "network"))),
    ],
)
def test_errors_that_may_pass_are_not_those_of_the_file(error):
    assert not is_of_the_file(error)


@pytest.mark.fault(131)
@pytest.mark.parametrize(
    "error",
    [
        VideoDecodeError("no video stream"),
        caused_by(av.error.InvalidDataError(1094995529, "invalid data")),
        caused_by(ValueError("another clock")),
        caused_by(caused_by(av.error.InvalidDataError(1094995529, "invalid data"))),
        ValueError("NaN"),
    ],
)
def test_errors_that_would_occur_again_are_those_of_the_file(error):
    assert is_of_the_file(error)
