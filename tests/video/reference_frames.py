"""Frames of a video as players show them, by plain and slow code, to compare with.

python tests/video/reference_frames.py VIDEO_OR_FOLDER... compares the clips of all windows of
files, and prints how many there are and how many are wrong.
"""

import sys
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation
from clips_of import read_clips

from skdejavid.video.clips import ClipSpec
from skdejavid.video.windows import FrameClock, WindowPlan

FLAGS = (
    Interpolation.BILINEAR
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
)
# Windows of frames, of fractions and of seconds.
LENGTHS = [(1, 1, 1), (4, 3, 4), (1 / 5, 1 / 40, 3), ((3, 8), 5, 3), ("0.3s", "0.1s", 2)]


def stream_shown(path):
    """Return the number of the stream that players show, by reading all packets."""
    with av.open(str(path)) as container:
        n_packets = dict.fromkeys(range(len(container.streams)), 0)
        for packet in container.demux():
            n_packets[packet.stream.index] += packet.size > 0
        kinds = av.stream.Disposition
        videos = [s for s in container.streams.video if not kinds.attached_pic & s.disposition]
        most = max(n_packets[s.index] for s in videos)
        films = [s for s in videos if n_packets[s.index] > 1 or most == 1]
        films.sort(key=lambda s: (kinds.default & s.disposition, s.width * s.height), reverse=True)
        return films[0].index


def placed(pixels, matrix):
    """Return pixels, each where a display matrix puts it; `matrix` has nine numbers."""
    (a, b, _), (c, d, _) = np.sign(np.reshape(matrix, (3, 3))[:2])
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    columns, rows = a * x + c * y, b * x + d * y
    columns, rows = columns - columns.min(), rows - rows.min()
    result = np.zeros((rows.max() + 1, columns.max() + 1, 3), np.uint8)
    result[rows, columns] = pixels
    return result


def reference_frames(path):
    """Return all shown frames, the seconds at which they begin, and that at which the last ends."""
    shown, times, ends = zip(*iterate_reference(path), strict=True)
    # Frames are in the order in which they are shown; in AVI files their times are not.
    return np.stack(shown), np.sort(times), ends[int(np.argmax(times))]


def matrix_at(frame):
    """Return the nine numbers of the display matrix that is valid from a frame on, or None."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all kinds of data
        return None
    return None if matrix is None else np.frombuffer(matrix, np.int32).tolist()


def iterate_reference(path):
    """Yield each shown frame, and the seconds at which it begins and ends."""
    index = stream_shown(path)
    shift = last = end = first = step = 0.0
    with av.open(str(path)) as container:
        stream = container.streams[index]
        stream.thread_type = "NONE"
        stream.codec_context.flags |= av.codec.context.Flags.unaligned
        aspect = stream.sample_aspect_ratio or 1
        for number, frame in enumerate(container.decode(stream)):
            width = round(frame.width * max(aspect, 1))
            height = round(frame.height / min(aspect, 1))
            rgb = frame.reformat(width, height, "rgb24", interpolation=FLAGS).to_ndarray()
            if frame.key_frame or number == 0:
                matrix = matrix_at(frame)
            rgb = rgb if matrix is None else placed(rgb, matrix)
            known = frame.pts is not None
            time = float(frame.pts * frame.time_base) if known else end - shift
            first = time if number == 0 else first
            if time + shift < last - 0.16:
                shift = end - time  # another file begins
            time += shift
            if number > 0 and time > last:
                step = time - last  # where files do not say how long frames last
            last = max(time, last)
            duration = float((frame.duration or 0) * frame.time_base)
            end = last + (duration or step or 1 / 25)
            yield rgb, time - first, end - first


def compare_windows(path, lengths=LENGTHS, *, n_threads=1):
    """Compare the clips of all windows of a file with the reference.

    Returns
    -------
    n_windows, n_wrong : int
        Numbers of windows over all `lengths`.
    """
    frames, times, end = reference_frames(path)
    n_windows = n_wrong = 0
    for width, stride, clip_length in lengths:
        spec = ClipSpec(width, stride, clip_length, one_by_one=False, shorter_side=None, crop=None)
        expected = spec.plan(FrameClock(times, end))
        items = list(read_clips(str(path), spec, n_threads=n_threads))
        last = max(i for i, item in enumerate(items) if isinstance(item, WindowPlan))
        plan, clips = items[last], np.moveaxis(np.stack(items[last + 1 :]), 2, -1)
        n_windows += len(expected.window_clips)
        same_plan = len(plan.window_clips) == len(expected.window_clips)
        for found, right in zip(plan.window_clips, expected.window_clips, strict=same_plan):
            numbers = expected.clip_frames[right.ravel()]
            is_right = clips[found.ravel()].shape == frames[numbers].shape
            is_right = is_right and np.array_equal(clips[found.ravel()], frames[numbers])
            n_wrong += not is_right
        n_wrong += abs(len(plan.window_clips) - len(expected.window_clips))
    return n_windows, n_wrong


def main():
    """Compare the files of the command line, or those in its folders."""
    av.logging.set_level(None)
    totals = np.zeros(2, int)
    for name in sys.argv[1:]:
        paths = sorted(Path(name).iterdir()) if Path(name).is_dir() else [Path(name)]
        for path in paths:
            if path.suffix not in (".md", ".csv"):
                counts = compare_windows(path)
                totals += counts
                print(f"{path.name}: {counts[0]} windows, {counts[1]} wrong", flush=True)
    print(f"all: {totals[0]} windows, {totals[1]} wrong")
    raise SystemExit(1 if totals[1] else 0)


if __name__ == "__main__":
    main()
