"""Odd video files of every format that is read, written with PyAV only.

python tests/video/odd_files.py FOLDER writes them all.
"""

import itertools
import os
import struct
import sys
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

QUIET = {"x265-params": "log-level=none", "preset": "ultrafast"}
FAST = {"deadline": "realtime", "cpu-used": "8"}
ONE_GROUP = {"g": "99", "sc_threshold": "0", "bf": "2"}  # one key frame
ONE = 1 << 16

# Where a pixel at (x, y) is shown: (a x + c y, b x + d y), for all orientations of a rectangle.
MATRICES = {
    "upright": (1, 0, 0, 1),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "half turn": (-1, 0, 0, -1),
    "quarter turn": (0, 1, -1, 0),
    "three quarter turns": (0, -1, 1, 0),
    "transposed": (0, 1, 1, 0),
    "transposed and half turn": (0, -1, -1, 0),
}


def matrix_of(a, b, c, d):
    """Return nine numbers for `set_display_matrix`."""
    return [round(a * ONE), round(b * ONE), 0, round(c * ONE), round(d * ONE), 0, 0, 0, 1 << 30]


def picture_frames(n_frames, height=48, width=64, seed=0):
    """Return different frames (n_frames, height, width, 3), coarse enough for any codec."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, size=(n_frames, 4, 4, 3), dtype=np.uint8)
    rows = np.arange(height) * 4 // height
    columns = np.arange(width) * 4 // width
    return np.ascontiguousarray(coarse[:, rows][:, :, columns])


class Writer:
    """A file that is written; `with Writer(path) as writer` closes it."""

    def __init__(self, path, file_format=None, options=None):
        self.container = av.open(str(path), "w", format=file_format, options=options or {})
        self._later = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for packets in self._later:
            for packet in packets:
                self.container.mux(packet)
        self.container.close()

    def video(
        self,
        codec,
        frames,
        *,
        pixels=None,
        aspect=None,
        matrix=None,
        options=None,
        rate=25,
        times=None,
        unit=None,
        disposition=None,
        bitstream=None,
        range_and_space=None,
    ):
        """Encode a stream; `times` are the starts of frames, in `unit`."""
        stream = self.container.add_stream(codec, rate=rate, options=options or {})
        context = stream.codec_context
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels or context.codec.video_formats[0].name
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if range_and_space is not None:
            context.color_range, context.colorspace = range_and_space
        if unit is not None:
            context.time_base = unit
        if matrix is not None:
            stream.set_display_matrix(matrix)
        if disposition is not None:
            stream.disposition = disposition
        shown = (self._picture(frame, stream, range_and_space) for frame in frames)
        packets = []
        for number, picture in enumerate(shown):
            picture.time_base = context.time_base or Fraction(1, rate)
            picture.pts = number if times is None else times[number]
            packets += stream.encode(picture)
        packets += stream.encode(None)
        if bitstream is not None:
            packets = self._filtered(bitstream, stream, packets)
        self._later.append(packets)
        return stream

    def sound(self, seconds):
        """Encode a stream of sound."""
        stream = self.container.add_stream("mp2", rate=48000, layout="mono")
        packets = []
        for number in range(int(seconds * 48000 / 1152)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 48000, number * 1152
            packets += stream.encode(frame)
        self._later.append(packets + stream.encode(None))

    def _picture(self, frame, stream, range_and_space):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        if range_and_space is None:
            return picture
        color_range, space = range_and_space
        return picture.reformat(
            format=stream.pix_fmt, dst_color_range=color_range, dst_colorspace=space
        )

    def _filtered(self, bitstream, stream, packets):
        context = BitStreamFilterContext(bitstream, in_stream=stream)
        filtered = list(itertools.chain(*(context.filter(packet) for packet in packets)))
        for packet in filtered:
            packet.stream = stream
        return filtered


def write(path, codec, frames=None, *, file_format=None, **settings):
    """Write a file with one stream of 20 frames, or of others."""
    with Writer(path, file_format) as writer:
        writer.video(codec, picture_frames(20) if frames is None else frames, **settings)


def _plain(suffix, codec, **settings):
    return suffix, lambda path: write(path, codec, **settings)


def _sized(suffix, codec, height, width, pixels=None, n_frames=5, **settings):
    frames = picture_frames(n_frames, height, width)
    return suffix, lambda path: write(path, codec, frames, pixels=pixels, **settings)


def _y4m(path):
    """Write uncompressed frames; PyAV has no encoder that names them so."""
    frames = picture_frames(5)
    header = b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C444\n"
    planes = (
        av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv444p").to_ndarray()
        for frame in frames
    )
    path.write_bytes(header + b"".join(b"FRAME\n" + plane.tobytes() for plane in planes))


def _joined(suffix, codec, numbers, **settings):
    """Return a file that consists of files with these numbers of frames, end to end."""

    def join(path):
        content = b""
        for seed, number in enumerate(numbers):
            write(path, codec, picture_frames(number, seed=seed), **settings)
            content += path.read_bytes()
        path.write_bytes(content)

    return suffix, join


def _trimmed(path):
    """Write a file whose edit list hides its first frames, which the others need."""
    full = path.with_suffix(".full.mp4")
    write(full, "libx264", options={"g": "50", "bf": "2", **QUIET})
    with av.open(str(full)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts -= round(Fraction(8, 25) / stream.time_base)
                packet.dts -= round(Fraction(8, 25) / stream.time_base)
                packet.stream = copy
                target.mux(packet)
    full.unlink()


def _two_streams(suffix, first, second, *, sound=0):
    """Return a file with two streams; each is (codec, frames, disposition)."""

    def write_both(path):
        with Writer(path) as writer:
            for codec, frames, disposition in (first, second):
                writer.video(codec, frames, disposition=disposition)
            if sound:
                writer.sound(sound)

    return suffix, write_both


def _with_sound(suffix, codec, seconds, **settings):
    def write_both(path):
        with Writer(path) as writer:
            writer.video(codec, picture_frames(20), **settings)
            writer.sound(seconds)

    return suffix, write_both


def _fragmented(path):
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with Writer(path, options=options) as writer:
        writer.video("libx264", picture_frames(20), options={"g": "5", **QUIET})


def with_clap(content, width, height, x, y):
    """Return an MP4 file of one H.264 stream that says which part of its frames is shown.

    `x` and `y` are the center of the part, from that of the frames.
    """
    parents = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"]
    numbers = struct.pack(">IIIIiIiI", width, 1, height, 1, x, 1, y, 1)
    grown = bytearray(content)
    at = 0
    for parent in parents:
        at = grown.index(parent, at)
        size = int.from_bytes(grown[at - 4 : at], "big")
        grown[at - 4 : at] = (size + 40).to_bytes(4, "big")
    end = at - 4 + size
    grown[end:end] = struct.pack(">I4s", 40, b"clap") + numbers
    return bytes(grown)


def with_pixel_crop(content, left, top, right, bottom):
    """Return a Matroska file of PyAV of 64 x 48 pixels with the shown part of its frames.

    It is written in place of color and flags, so that everything else stays where it is.
    """
    size = b"\xb0\x81\x40\xba\x81\x30"  # 64 x 48
    start = content.index(size)
    end = content.index(b"\x63\xa2", start)
    sides = {b"\x54\xcc": left, b"\x54\xbb": top, b"\x54\xdd": right, b"\x54\xaa": bottom}
    fields = size + b"".join(name + bytes([0x81, side]) for name, side in sides.items())
    filler = end - start - len(fields) - 2
    fields += bytes([0xEC, 0x80 + filler]) + bytes(filler)
    return content[: start - 1] + bytes([0x80 + len(fields)]) + fields + content[end:]


def _live(path):
    with Writer(path, options={"live": "1"}) as writer:
        writer.video("libx264", picture_frames(20), options=QUIET)


SMALL, LARGE = picture_frames(20, 32, 32, seed=1), picture_frames(20)
ONE_PICTURE = picture_frames(1, 96, 96, seed=2)
DEFAULT, NONE = av.stream.Disposition.default, av.stream.Disposition(0)
COVER = av.stream.Disposition.attached_pic
CROPPED = (slice(6, -10), slice(16, -8))  # rows and columns that are shown
_CROP = "{}_metadata=crop_left=16:crop_right=8:crop_top=6:crop_bottom=10"
JPEG_RANGE, VIDEO_RANGE, BT709, BT601 = 2, 1, 1, 5

# The suffix and what writes it, by name.
FILES = {
    "mp4": _plain("mp4", "libx264", options={"bf": "3"}),
    "mp4 hevc": _plain("mp4", "libx265", options=QUIET),
    "mp4 av1": _plain("mp4", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    "mp4 fragments": ("mp4", _fragmented),
    "mov jpeg": _plain("mov", "mjpeg"),
    "3gp": _plain("3gp", "mpeg4"),
    "mkv": _plain("mkv", "libx264", options={"bf": "3", "g": "10"}),
    "mkv live": ("mkv", _live),
    "webm vp9": _plain("webm", "libvpx-vp9", options=FAST),
    "webm vp8 hidden": _plain(
        "webm", "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "9"}
    ),
    "avi": _plain("avi", "mpeg4", options={"bf": "2"}),
    "avi h264": _plain("avi", "libx264", options={"bf": "2"}),
    "avi jpeg": _plain("avi", "mjpeg"),
    "mpg": _plain("mpg", "mpeg2video", options={"bf": "2"}),
    "mpg 1": _plain("mpg", "mpeg1video"),
    "vob": _plain("vob", "mpeg2video"),
    "ts": _plain("ts", "libx264", options={"bf": "3"}),
    "m2ts": _plain("m2ts", "mpeg2video"),
    "flv": _plain("flv", "flv1"),
    "flv h264": _plain("flv", "libx264", options={"bf": "2"}),
    "wmv": _plain("wmv", "wmv2"),
    "asf": _plain("asf", "msmpeg4"),
    "ogv": _plain("ogv", "libvpx", options=FAST),
    "gif": _plain("gif", "gif"),
    "apng": _plain("apng", "apng"),
    "ivf": _plain("ivf", "libvpx", options=FAST),
    "nut": _plain("nut", "ffv1"),
    "dv": _sized("dv", "dvvideo", 576, 720, "yuv420p", 3),
    "mxf": _plain("mxf", "mpeg2video"),
    "y4m": ("y4m", _y4m),
    "mjpeg": _plain("mjpeg", "mjpeg"),
    "m4v bare": _plain("m4v", "mpeg4", file_format="m4v"),
    "m2v": _plain("m2v", "mpeg2video"),
    "h264": _plain("h264", "libx264", options={"bf": "2"}),
    "hevc": _plain("hevc", "libx265", options=QUIET),
    "obu": _plain("obu", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    **{
        f"mp4 {name}": _plain("mp4", "libx264", matrix=matrix_of(*matrix))
        for name, matrix in MATRICES.items()
    },
    "mkv quarter turn": _plain("mkv", "libx264", matrix=matrix_of(*MATRICES["quarter turn"])),
    "mov mirrored": _plain("mov", "mpeg4", matrix=matrix_of(*MATRICES["mirrored"])),
    "ts turned in the stream": _plain(
        "ts",
        "libx264",
        options=ONE_GROUP,
        bitstream="h264_metadata=display_orientation=insert:rotate=90",
    ),
    **{
        f"{suffix} pixels {aspect.numerator} by {aspect.denominator}": _plain(
            suffix, codec, aspect=aspect
        )
        for suffix, codec in (("mp4", "libx264"), ("mpg", "mpeg2video"), ("avi", "mpeg4"))
        for aspect in (Fraction(4, 3), Fraction(3, 4))
        if (suffix, aspect) != ("mpg", Fraction(3, 4))  # which MPEG-2 cannot say
    },
    "ogv pixels": _plain("ogv", "libvpx", options=FAST, aspect=Fraction(16, 11)),
    "mp4 narrow pixels turned": _plain(
        "mp4", "libx264", aspect=Fraction(8, 9), matrix=matrix_of(*MATRICES["quarter turn"])
    ),
    "mov wide pixels transposed": _plain(
        "mov", "mpeg4", aspect=Fraction(32, 27), matrix=matrix_of(*MATRICES["transposed"])
    ),
    "one pixel": _sized("nut", "ffv1", 1, 1, "bgr0"),
    "two by one": _sized("mkv", "ffv1", 1, 2, "yuv444p"),
    "odd size": _sized("mp4", "libx264", 17, 33, "yuv444p"),
    "odd size 420": _sized("mkv", "ffv1", 17, 33, "yuv420p"),
    "one frame": _sized("mp4", "libx264", 48, 64, n_frames=1),
    **{
        f"{codec} {pixels}": _sized("mkv", codec, 48, 64, pixels)
        for codec, pixels in (
            *(("ffv1", kind) for kind in ("gray", "yuva420p", "yuv422p10le", "bgr0", "gray10le")),
            *(("libx264", kind) for kind in ("yuv420p10le", "yuvj420p", "yuv422p")),
            *(("mjpeg", kind) for kind in ("yuvj422p", "yuvj444p")),
        )
    },
    **{f"png {kind}": _sized("mov", "png", 48, 64, kind) for kind in ("rgb24", "rgba", "gray")},
    "raw rgb": _sized("avi", "rawvideo", 48, 64, "bgr24"),
    "bt709": _sized("mkv", "libx264", 48, 64, range_and_space=(VIDEO_RANGE, BT709)),
    "bt601 full": _sized("mkv", "libx264", 48, 64, range_and_space=(JPEG_RANGE, BT601)),
    **{
        f"{codec} crop": _plain("ts", f"lib{codec}", options=QUIET, bitstream=_CROP.format(kind))
        for codec, kind in (("x264", "h264"), ("x265", "hevc"))
    },
    "interlaced": _plain("mpg", "mpeg2video", options={"flags": "+ildct+ilme"}),
    "pauses": _plain(
        "mp4", "libx264", times=[0, 1, 2, 9, 10, 30, *range(40, 54)], unit=Fraction(1, 25)
    ),
    "pauses mkv": _plain(
        "mkv", "mpeg4", times=[3 * i * i for i in range(20)], unit=Fraction(1, 90)
    ),
    "late start": _plain("ts", "libx264", times=range(90_000, 90_020), unit=Fraction(1, 25)),
    "30000/1001": _plain("mp4", "libx264", rate=Fraction(30000, 1001), options={"bf": "2"}),
    "trimmed": ("mp4", _trimmed),
    "pauses and B-frames": _plain(
        "mkv", "libx264", times=[0, 1, 30, 31, *range(90, 106)], options={"bf": "3"}
    ),
    "joined ts": _joined("ts", "libx264", (20, 13, 7), options={"bf": "2"}),
    "joined mpg": _joined("mpg", "mpeg2video", (20, 7), options={"bf": "2"}),
    "joined vob": _joined("vob", "mpeg2video", (7, 20)),
    "joined mkv": _joined("mkv", "libx264", (20, 9), options={"bf": "3"}),
    "joined webm": _joined("webm", "libvpx-vp9", (9, 20), options=FAST),
    "joined m2v": _joined("m2v", "mpeg2video", (20, 9)),
    "joined mjpeg": _joined("mjpeg", "mjpeg", (3, 4)),
    "picture first": _two_streams(
        "mkv", ("mjpeg", ONE_PICTURE, DEFAULT), ("libx264", LARGE, NONE), sound=1
    ),
    "picture first wmv": _two_streams("wmv", ("mjpeg", ONE_PICTURE, NONE), ("wmv2", LARGE, NONE)),
    "cover first": _two_streams("mp4", ("mjpeg", ONE_PICTURE, COVER), ("libx264", LARGE, DEFAULT)),
    "cover last": _two_streams("mp4", ("libx264", LARGE, DEFAULT), ("mjpeg", ONE_PICTURE, COVER)),
    "preview first": _two_streams("mkv", ("libx264", SMALL, DEFAULT), ("libx264", LARGE, DEFAULT)),
    "small default": _two_streams("mp4", ("libx264", LARGE, NONE), ("libx264", SMALL, DEFAULT)),
    "two programs": _two_streams("ts", ("libx264", SMALL, None), ("mpeg2video", LARGE, None)),
    "long sound": _with_sound("mkv", "libx264", 3, options={"bf": "2"}),
    "long sound ts": _with_sound("ts", "mpeg2video", 3),
    "long sound wmv": _with_sound("asf", "wmv2", 3),
    "long sound mp4": _with_sound("mp4", "libx264", 3),
}


def write_odd_file(name, folder):
    """Write one of `FILES` into a folder; return its path."""
    suffix, write_to = FILES[name]
    path = Path(folder) / f"{name.replace('/', ' ')}.{suffix}"
    with _usual_priority():
        write_to(path)
    return path


@contextmanager
def _usual_priority():
    """Undo what SVT-AV1 does where it may: it gives its caller priority over all other programs."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def main():
    """Write all files into the folder of the command line."""
    for name in FILES:
        write_odd_file(name, sys.argv[1])


if __name__ == "__main__":
    main()
