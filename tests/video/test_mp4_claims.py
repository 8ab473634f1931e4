import io
import resource
import struct
import zlib

import numpy as np
import pytest
from traced_memory import traced_memory
from videos import count_frames, numbered

from skdejavid.datasets import write_video
from skdejavid.video.mp4_claims import bytes_of_samples
from skdejavid.video.opening import RefusedVideoError, VideoDecodeError


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


def claim(n_samples=10**6, kind=b"stsz"):
    count = (
        struct.pack(">II", 0, n_samples)
        if kind == b"trun"
        else struct.pack(">III", 0, 0, n_samples)
    )
    return box(kind, count + bytes(4))


def inside(content, *kinds):
    for kind in reversed(kinds):
        content = box(kind, content)
    return content


@pytest.mark.fault(79)
@pytest.mark.parametrize("kind", [b"stsz", b"stz2", b"trun"])
@pytest.mark.parametrize(
    "parents",
    [
        (b"moov", b"trak", b"mdia", b"minf", b"stbl"),
        (b"moof", b"traf"),
        (b"moov", b"mvex"),
        (b"moov", b"udta", b"trak"),
        (b"hoov", b"mvhd"),
        (),
    ],
)
def test_claims_are_found_wherever_ffmpeg_finds_them(kind, parents):
    if parents[:1] == (b"hoov",):
        content = box(b"hoov", box(b"mvhd") + claim(kind=kind))
    else:
        content = inside(claim(kind=kind), *parents)
    assert claims_of(HEADER + content) == 64 * 10**6
    assert claims_of(content + HEADER + content) == 128 * 10**6
    assert claims_of(box(b"what", bytes(99)) + content) == 64 * 10**6


@pytest.mark.fault(79)
def test_sizes_of_boxes_are_read_as_ffmpeg_does():
    to_the_end = struct.pack(">I", 0) + b"moov" + claim()
    assert claims_of(HEADER + to_the_end) == 64 * 10**6
    too_large = struct.pack(">I", 2**31) + b"moov" + claim()
    assert claims_of(HEADER + too_large) == 64 * 10**6
    large = struct.pack(">I4sQ", 1, b"moov", 16 + len(claim())) + claim()
    assert claims_of(HEADER + large + claim()) == 128 * 10**6
    skipped = struct.pack(">I4sQ", 1, b"uuid", 16 + len(claim())) + claim()
    assert claims_of(HEADER + skipped + claim()) == 64 * 10**6


@pytest.mark.fault(79)
@pytest.mark.parametrize("n_before", [0, 4, 2**16 - 4, 2**16 + 12])
def test_claims_in_metadata_are_found_behind_whatever_is_before_them(n_before):
    content = bytes(n_before) + box(b"hdlr", bytes(20)) + claim()
    assert claims_of(HEADER + inside(content, b"moov", b"udta", b"meta")) == 64 * 10**6


@pytest.mark.fault(79)
@pytest.mark.parametrize("n_fields", [8, 20, 70, 78 + 8 * 200])
def test_claims_in_the_description_of_a_codec_are_found(n_fields):
    fields = bytes(8 + n_fields)
    entry = struct.pack(">I", 8 + len(fields) + len(claim())) + b"abcd" + fields
    start = struct.pack(">II", 0, 1)
    content = box(b"stsd", start + entry + claim())
    assert claims_of(HEADER + content) == 64 * 10**6
    beyond = box(b"stsd", start + entry) + claim()[4:]  # the box ends before the description
    assert claims_of(HEADER + beyond) == 64 * 10**6


@pytest.mark.fault(79)
def test_claims_in_a_compressed_header_are_found():
    header = zlib.compress(inside(claim(), b"moov", b"trak"))
    compressed = box(
        b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I", 1000) + header)
    )
    assert claims_of(HEADER + box(b"moov", compressed)) == 64 * 10**6
    assert claims_of(HEADER + box(b"free", compressed)) == 64 * 10**6
    assert claims_of(HEADER + box(b"skip", compressed)) == 0
    for end in range(len(compressed)):
        assert claims_of(HEADER + box(b"moov", compressed[:end])) in (0, 64 * 10**6)


@pytest.mark.fault(79)
def test_a_compressed_header_is_not_decompressed_without_end():
    bomb = zlib.compress(bytes(2**27))
    compressed = box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", bytes(4) + bomb))
    with traced_memory() as traced:
        assert claims_of(HEADER + box(b"moov", compressed)) > 2**32
    assert traced.peak < 2**27


WORDS = b"trun\0\0\0\0\0\x80\0\0stsz\0\0\0\0\0\0\0\0\0\x80\0\0cmovcmvd"


@pytest.mark.fault(79)
@pytest.mark.parametrize("kind", [b"uuid", b"free", b"skip", b"mdat", b"what"])
def test_words_in_what_is_no_table_claim_nothing(kind):
    size = struct.pack(">I", 40)
    for content in (WORDS, size + WORDS, b"x" * 8 + size + WORDS):
        assert claims_of(HEADER + box(kind, b"its " + content)) == 0
        assert claims_of(HEADER + box(b"moov", box(b"udta", box(b"abcd", content)))) == 0
    assert claims_of(b"RIFF" + claim() * 9) == 0


TITLES = [
    "The elephant lifts its trunk and drinks",
    "trun trun trun trun trun stsz stsz stsz stsz cmvd cmov",
    "stsz",
    "Baumstämme: trunci, stz2 ßtsz",
]


@pytest.mark.fault(79)
@pytest.mark.parametrize("suffix", ["mp4", "mov", "3gp"])
@pytest.mark.parametrize("title", TITLES)
def test_a_video_of_any_title_is_read(title, suffix, tmp_path):
    import av

    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        for key in ("title", "comment", "artist", "description", "lyrics", "encoder"):
            container.metadata[key] = title
        stream = container.add_stream("libx264", rate=25)
        stream.metadata.update(handler_name=title, encoder=title, title=title)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for frame in numbered(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    assert title.encode() in path.read_bytes()
    assert claims_of(path.read_bytes()) == 5 * 64
    assert count_frames(path) == 5


@pytest.mark.fault(79)
@pytest.mark.parametrize("kind", [b"uuid", b"free", b"junk", b"gpmd"])
def test_what_a_camera_appends_does_not_matter(kind, tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, numbered(5))
    with path.open("ab") as file:
        file.write(box(kind, bytes(1000) + WORDS + bytes(1000)))
    assert count_frames(path) == 5


@pytest.mark.fault(79)
def test_what_is_skipped_is_not_read(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, numbered(5))
    n_bytes = 2**30
    with path.open("ab") as file:
        file.write(struct.pack(">I4sQ", 1, b"free", 16 + n_bytes))
        file.seek(n_bytes, 1)
        file.truncate()
    with traced_memory() as traced, path.open("rb") as file:
        assert bytes_of_samples(file, path.stat().st_size) == 5 * 64
    assert traced.peak < 2**20


def with_compressed_header(content):
    at = content.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", content, at)
    header = content[at : at + size]
    data = box(b"cmvd", struct.pack(">I", size) + zlib.compress(header))
    return (
        content[:at]
        + box(b"moov", box(b"cmov", box(b"dcom", b"zlib") + data))
        + content[at + size :]
    )


def test_a_video_with_a_compressed_header_is_read(tmp_path):
    """As QuickTime wrote them in the nineties."""
    path = tmp_path / "a.mov"
    write_video(path, numbered(5))
    path.write_bytes(with_compressed_header(path.read_bytes()))
    assert claims_of(path.read_bytes()) == 5 * 64
    assert count_frames(path) == 5


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
    content = HEADER + box(b"moov", box(b"stsd", bytes(20)) + claim(10) + box(b"trun", bytes(8)))
    for end in range(len(content)):
        assert claims_of(content[:end]) in (0, 640)
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(content)
        changed[int(rng.integers(len(content)))] = int(rng.integers(256))
        assert claims_of(bytes(changed)) >= 0


@pytest.mark.fault(79)
@pytest.mark.parametrize("n_samples", [2**29, 2**32 - 1])
@pytest.mark.parametrize("kind", [b"stsz", b"trun"])
def test_more_samples_than_ffmpeg_takes_cost_nothing(kind, n_samples, tmp_path):
    """Any four letters are as many."""
    path = tmp_path / "a.mp4"
    if kind == b"stsz":
        write_video(path, numbered(5))
        fields = struct.pack(">III", 0, 1, n_samples)
    else:
        write_fragmented(path, 5)
        fields = struct.pack(">II", 0, n_samples)
    content = bytearray(path.read_bytes())
    at = content.index(kind)
    content[at + 4 : at + 4 + len(fields)] = fields
    path.write_bytes(content)
    before = peak()
    with pytest.raises(VideoDecodeError, match=r"a\.mp4"):
        count_frames(path)
    assert peak() - before < 50e6
    assert claims_of(content) <= 5 * 64


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
