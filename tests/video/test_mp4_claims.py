import io
import struct

import numpy as np
import pytest
from videos import count_frames, numbered

from skdejavid.datasets import write_video
from skdejavid.video.mp4_claims import bytes_of_samples
from skdejavid.video.opening import RefusedVideoError


def claims_of(content):
    return bytes_of_samples(io.BytesIO(content), len(content))


def write_fragmented(path, n_frames):
    import av

    flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(path), "w", options=flags) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for frame in numbered(n_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.fault(79)
@pytest.mark.parametrize("kind", ["whole", "fragments"])
def test_an_mp4_file_claims_the_samples_that_it_has(kind, tmp_path):
    path = tmp_path / "a.mp4"
    if kind == "whole":
        write_video(path, numbered(30))
    else:
        write_fragmented(path, 30)
    assert claims_of(path.read_bytes()) == 30 * 64
    assert count_frames(path) == 30


@pytest.mark.fault(79)
@pytest.mark.parametrize("kind", ["whole", "fragments"])
def test_a_kilobyte_that_claims_millions_of_frames_is_refused(kind, tmp_path):
    path = tmp_path / "a.mp4"
    if kind == "whole":
        write_video(path, numbered(5))
        content = bytearray(path.read_bytes())
        at = content.index(b"stsz")
        content[at + 8 : at + 16] = struct.pack(">II", 1, 4_000_000)
    else:
        write_fragmented(path, 5)
        content = bytearray(path.read_bytes())
        at = content.index(b"trun")
        content[at + 4 : at + 12] = struct.pack(">II", 0, 4_000_000)
    path.write_bytes(content)
    message = r"a\.mp4: the frames that it claims to have would take 256 MB, too much for a file"
    with pytest.raises(RefusedVideoError, match=message):
        count_frames(path)


def box(kind, content=b""):
    return struct.pack(">I", 8 + len(content)) + kind + content


HEADER = box(b"ftyp", b"isom")


@pytest.mark.fault(79)
def test_claims_are_found_wherever_they_are_but_in_the_media():
    claim = box(b"stsz", struct.pack(">III", 0, 0, 10**6))
    assert claims_of(HEADER + box(b"moov", box(b"trak", claim))) == 64 * 10**6
    assert claims_of(HEADER + box(b"free", claim) + claim) == 128 * 10**6
    assert claims_of(HEADER + struct.pack(">I", 0) + b"moov" + claim) == 64 * 10**6
    large = struct.pack(">I4sQ", 1, b"moov", 16 + len(claim)) + claim
    assert claims_of(HEADER + large + claim) == 128 * 10**6
    assert claims_of(HEADER + box(b"mdat", claim)) == 0
    assert claims_of(b"RIFF" + claim * 9) == 0
    assert claims_of(HEADER + box(b"moov", box(b"cmov", box(b"cmvd", bytes(9))))) == 2**31


def test_samples_of_one_size_that_are_there_cost_nothing():
    """The samples of uncompressed sound have few bytes, and are many."""
    media = box(b"mdat", bytes(4000))
    assert (
        claims_of(HEADER + box(b"moov", box(b"stsz", struct.pack(">III", 0, 4, 1000))) + media) == 0
    )
    assert (
        claims_of(HEADER + box(b"moov", box(b"stsz", struct.pack(">III", 0, 4, 9000))) + media) > 0
    )


def test_damaged_files_have_no_claims_that_raise():
    claim = HEADER + box(
        b"moov", box(b"stsz", struct.pack(">III", 0, 0, 10)) + box(b"trun", bytes(8))
    )
    for end in range(len(claim)):
        assert claims_of(claim[:end]) in (0, 640)
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(claim)
        changed[int(rng.integers(len(claim)))] = int(rng.integers(256))
        assert claims_of(bytes(changed)) >= 0
