"""Fuzzing of decoding: mutated videos must be read, or refused as documented.

python tests/fuzz_videos.py --inputs 20000 [--videos FOLDER]

A child process reads the videos one by one, so that a crash, a hang and the memory of each are
noticed. Without a folder the samples are a few generated videos, in many formats.
"""

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

SECONDS = 5  # after which an input counts as hanging
BYTES_PER_BYTE, BYTES_PER_FILE = 20, 200e6  # memory that reading a file may take
LARGEST = 60_000  # bytes of a sample that are kept; decoding longer ones takes too long

# suffix, codec, options
SAMPLES = [
    ("mp4", "libx264", {"bf": "3"}),
    ("mov", "mjpeg", {}),
    ("3gp", "mpeg4", {}),
    ("mkv", "libx264", {"bf": "2"}),
    ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ("avi", "mpeg4", {"bf": "2"}),
    ("mpg", "mpeg2video", {"bf": "2"}),
    ("ts", "libx264", {}),
    ("m2ts", "mpeg2video", {}),
    ("flv", "flv1", {}),
    ("wmv", "wmv2", {}),
    ("gif", "gif", {}),
    ("apng", "apng", {}),
    ("ivf", "libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    ("nut", "ffv1", {}),
    ("mxf", "mpeg2video", {}),
    ("mjpeg", "mjpeg", {}),
    ("m2v", "mpeg2video", {}),
    ("h264", "libx264", {"bf": "2"}),
    ("hevc", "libx265", {"x265-params": "log-level=none"}),
]


def generated(folder):
    """Write one small video of each kind in `SAMPLES`."""
    from videos import numbered

    from skdejavid.datasets import write_video

    for number, (suffix, codec, options) in enumerate(SAMPLES):
        frames = numbered(12, 64)
        write_video(folder / f"{number:02}.{suffix}", frames, codec=codec, options=options)


def shortened(source, target):
    """Copy the first packets of a video, as many as `LARGEST` allows, or its first bytes."""
    import av

    if source.stat().st_size <= LARGEST:
        target.write_bytes(source.read_bytes())
        return
    try:
        with av.open(str(source)) as read, av.open(str(target), "w") as written:
            stream = read.streams.video[0]
            copy = written.add_stream_from_template(stream)
            n_bytes = 0
            for packet in read.demux(stream):
                n_bytes += packet.size
                if packet.dts is None or n_bytes > LARGEST:
                    break
                packet.stream = copy
                written.mux(packet)
    except (av.FFmpegError, ValueError):
        target.write_bytes(source.read_bytes()[:LARGEST])


def mutated(rng, content):
    """Return the bytes of a video, changed as by chance or by somebody who means harm."""
    changed = bytearray(content)
    # Headers decide what is allocated, and are a small part of the file.
    head = rng.choice([64, 512, 4096, len(changed), len(changed)])
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        limit = min(head, len(changed))
        at = rng.randrange(limit + 1)
        if rng.random() < 0.2:
            at = max(len(changed) - at, 0)  # the index of some formats is at the end
        kind = rng.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            number = rng.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1])
            size = rng.choice([1, 2, 4, 8])
            changed[at : at + size] = (number % 256**size).to_bytes(
                size, rng.choice(["big", "little"])
            )
        elif kind == 2:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            del changed[at : at + rng.randrange(1, 200)]
        elif kind == 4:
            changed[at:at] = changed[at : at + rng.randrange(1, 400)]
        elif kind == 5:
            changed[at : at + 16] = rng.randbytes(16)
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def current_bytes():
    """Return the memory that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def read_all(path):
    """Read clock and frames of a video, with windows in seconds; return whether it was accepted."""
    from skdejavid.video.clips import ClipSpec, read_frames
    from skdejavid.video.opening import RefusedVideoError, VideoDecodeError

    spec = ClipSpec(
        width="0.2s",
        stride="0.1s",
        clip_length=4,
        one_by_one=False,
        shorter_side=32,
        crop=32,
        max_pixels=2**26,
    )
    try:
        for _ in read_frames(str(path), spec):
            pass
    except (VideoDecodeError, RefusedVideoError) as error:
        if str(path) in str(error):
            return False
        raise AssertionError(f"a message without the path: {error}") from error
    return True


def work(pipe):
    """Read the videos that the pipe names, and answer each with outcome, seconds and bytes."""
    import skdejavid.video.clips  # noqa: F401  (before memory is measured)

    while (path := pipe.recv()) is not None:
        # The peak is reset, so that it is that of this video.
        Path("/proc/self/clear_refs").write_text("5")
        before, begin = current_bytes(), time.monotonic()
        try:
            outcome = read_all(path)
        except BaseException as error:
            outcome = repr(error)
        n_bytes = highest_bytes() - before
        pipe.send((outcome, time.monotonic() - begin, n_bytes))


def crash(pipe):
    """Crash at the first video, in place of `work`."""
    pipe.recv()
    os.abort()


def highest_bytes():
    """Return the peak of the memory that this process used since it was reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Reader:
    """A process that reads videos, restarted after a crash or a hang."""

    def __init__(self, target=work):
        self._target = target
        self._context = multiprocessing.get_context("spawn")
        self._process = None

    def read(self, path):
        """Return what happened, seconds, and bytes of memory."""
        if self._process is None:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(target=self._target, args=[theirs], daemon=True)
            self._process.start()
            theirs.close()
        self._pipe.send(str(path))
        try:
            # A process that starts imports first.
            if not self._pipe.poll(60):
                self.close()
                return "hang", 60.0, 0
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self.close()
            return f"crash, exit code {code}", 0.0, 0

    def close(self):
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def problem_of(outcome, seconds, n_bytes, size):
    """Return what is wrong with reading a video, or None."""
    if not isinstance(outcome, bool):
        return outcome
    if seconds > SECONDS:
        return f"took {seconds:.1f} s"
    if n_bytes > BYTES_PER_BYTE * size + BYTES_PER_FILE:
        return f"took {n_bytes / 1e6:.0f} MB for {size} bytes"
    return None


def fuzz_videos(n_inputs, seed, videos=None, keep=None):
    """Return how many inputs were refused, and a list of problems (number, sample, what)."""
    n_refused, problems, largest, longest = 0, [], 0, 0.0
    reader = Reader()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if videos is None:
            generated(folder)
        else:
            for path in sorted(Path(videos).iterdir()):
                if path.suffix not in (".md", ".csv"):
                    shortened(path, folder / path.name)
        samples = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
        for i in range(n_inputs):
            rng = random.Random(f"{seed} videos {i}")
            sample, content = rng.choice(samples)
            path = folder / f"mutated{Path(sample).suffix}"
            path.write_bytes(mutated(rng, content))
            outcome, seconds, n_bytes = reader.read(path)
            n_refused += outcome is False
            largest, longest = max(largest, n_bytes), max(longest, seconds)
            problem = problem_of(outcome, seconds, n_bytes, path.stat().st_size)
            if problem is not None:
                problems.append((i, sample, problem))
                print(f"input {i} of {sample} with seed {seed}: {problem}", flush=True)
                if keep is not None:
                    (Path(keep) / f"{seed}-{i}-{sample}").write_bytes(path.read_bytes())
    reader.close()
    print(f"longest {longest:.1f} s, largest {largest / 1e6:.0f} MB")
    return n_refused, problems


def main():
    """Fuzz with generated samples, or those of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--videos", help="folder of samples, instead of generated ones")
    parser.add_argument("--keep", help="folder for inputs with problems")
    arguments = parser.parse_args()
    begin = time.monotonic()
    n_refused, problems = fuzz_videos(
        arguments.inputs, arguments.seed, arguments.videos, arguments.keep
    )
    seconds = time.monotonic() - begin
    print(f"{arguments.inputs} videos in {seconds:.0f} s, {n_refused} refused")
    raise SystemExit(f"{len(problems)} problem(s)" if problems else 0)


if __name__ == "__main__":
    main()
