"""Videos in which each frame shows its own number, in many codecs, and reading them."""

from fractions import Fraction

import numpy as np

from skdejavid.datasets import write_video
from skdejavid.video.decoding import ToRGB, decode

N_BITS = 16

# suffix, codec, options of the codec
CODECS = {
    "h264 with B-frames": ("mp4", "libx264", {"bf": "3"}),
    "h264 with one key frame": ("mkv", "libx264", {"g": "1000"}),
    "mpeg4": ("avi", "mpeg4", {}),
    "mpeg4 with B-frames": ("avi", "mpeg4", {"bf": "2"}),
    "vp9": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "vp8 with hidden frames": (
        "webm",
        "libvpx",
        {"auto-alt-ref": "1", "lag-in-frames": "10", "deadline": "good", "cpu-used": "5"},
    ),
    "mjpeg": ("mkv", "mjpeg", {}),
    "mpeg2": ("mpg", "mpeg2video", {"bf": "2"}),
    "gif": ("gif", "gif", {}),
}


def numbered(n_frames, size=64):
    """Return frames (n_frames, size, size, 3) that show their number in black and white bars."""
    bits = (np.arange(n_frames)[:, None] >> np.arange(N_BITS)) & 1
    halves = np.repeat(bits.reshape(-1, 2, N_BITS // 2) * 255, size // 2, axis=1)
    bars = np.repeat(halves, size * 2 // N_BITS, axis=2).astype(np.uint8)
    return np.repeat(bars[..., None], 3, axis=3)


def numbers_of(frames):
    """Return the numbers that frames (..., height, width, 3) show, scaled or not."""
    height, width = frames.shape[-3:-1]
    rows = [height // 4, height - 1 - height // 4]
    columns = ((np.arange(N_BITS // 2) + 0.5) * width * 2 / N_BITS).astype(int)
    bits = frames[..., rows, :, :][..., columns, :].mean(axis=-1) > 127
    return bits.reshape(*frames.shape[:-3], N_BITS) @ (1 << np.arange(N_BITS))


def iterate_frames(path):
    """Iterate over all frames of a file, (height, width, 3) RGB."""
    return map(ToRGB(), decode(path))


def count_frames(path):
    """Return the number of frames of a file, by decoding them."""
    return sum(1 for _ in decode(path))


def write_numbered(path, n_frames, kind):
    """Write a numbered video with one of `CODECS`; return its path."""
    suffix, codec, options = CODECS[kind]
    path = path.with_suffix(f".{suffix}")
    write_video(path, numbered(n_frames), codec=codec, options=options)
    return path


def write_at(path, codec, times, size=64):
    """Write a video with numbered frames at the given times, in 1/25 s."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height = stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for frame, time in zip(numbered(len(times), size), times, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
