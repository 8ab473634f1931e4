"""Measure throughput, overlap and memory of extraction.

    python benchmarks/bench_extract.py path/to/videos [--encoder FILE.py:FUNCTION --argument FILE]

Three measurements, each a ratio or a size:

* throughput of decoding and windowing with an encoder that does nothing, relative to a plain PyAV
  loop that decodes and scales the same frames with the decoder's own threads;
* overlap of decoding and encoding: one thread decodes, and the encoder computes on one thread for
  the same time; 0.5 is perfect, 1 is no overlap;
* peak memory of a process, for the largest videos of the folder with the given encoder, and for
  generated videos of one and ten minutes with an encoder that does nothing.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch

from skdejavid import TSEExtractor
from skdejavid.video.named_code import call_named

SIZE = 224
EVERY_FRAME = {"width": 1, "stride": 1, "clip_length": 1, "layout": "BCHW", "frame_size": SIZE}
RECIPES = {
    "Kinetics-400": {"width": 1 / 5, "stride": 1 / 40, "clip_length": 16},
    "Something-Something V2": {"width": (16, 32, 64, 1.0), "stride": 1, "clip_length": 16},
}


def nothing(clips):
    """Return one number per clip, at no cost."""
    return clips.flatten(1)[:, :1]


class Busy(torch.nn.Module):
    """Encoder that multiplies matrices for `n_rounds` rounds per image."""

    def __init__(self, n_rounds):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.eye(256), requires_grad=False)
        self.n_rounds = n_rounds

    def forward(self, images):
        """Return one number per image."""
        product = self.matrix
        for _ in range(self.n_rounds * len(images)):
            product = product @ self.matrix
        return images.flatten(1)[:, :1] * product[0, 0]


def videos_in(folder):
    """Return the paths of all videos below a folder."""
    return sorted(
        str(path)
        for path in Path(folder).rglob("*")
        if path.suffix in {".mp4", ".avi", ".mkv", ".mpg", ".gif", ".webm"}
    )


def decode_plainly(paths):
    """Decode and scale every frame without this package; return the number of frames."""
    n_frames = 0
    for path in paths:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                scale = SIZE / min(frame.height, frame.width)
                height, width = round(frame.height * scale), round(frame.width * scale)
                frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
                n_frames += 1
    return n_frames


def seconds_of(call):
    """Return the duration of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure_throughput(paths, n_rounds):
    """Return time of plain decoding over time of extraction: 1 means equally fast."""
    extractor = TSEExtractor(nothing, batch_size=32, **EVERY_FRAME)
    ratios, rates = [], []
    for _ in range(n_rounds):
        n_frames = decode_plainly(paths)  # also brings the files into the page cache
        plain = seconds_of(lambda: decode_plainly(paths))
        ours = seconds_of(lambda: extractor.transform(paths))
        ratios.append(plain / ours)
        rates.append(n_frames / ours)
    return {"of plain decoding": statistics.median(ratios), "frames/s": statistics.median(rates)}


def measure_overlap(paths, n_rounds):
    """Return time of extraction over the sum of decoding alone and encoding alone."""
    torch.set_num_threads(1)
    options = {"batch_size": 32, "n_jobs": 1, **EVERY_FRAME}
    extractor = TSEExtractor(nothing, **options)
    n_frames = int(extractor.transform(paths).lengths.sum())
    images = torch.zeros(32, 3, SIZE, SIZE)
    ratios = []
    for _ in range(n_rounds):
        decoding = seconds_of(lambda: extractor.transform(paths))
        one_round = seconds_of(lambda: [Busy(20)(images) for _ in range(5)]) / (5 * 32 * 20)
        encoder = Busy(max(1, round(decoding / n_frames / one_round)))
        n_batches = -(-n_frames // 32)
        encoding = seconds_of(lambda e=encoder, n=n_batches: [e(images) for _ in range(n)])
        both = TSEExtractor(encoder, **options)
        ratios.append(seconds_of(lambda b=both: b.transform(paths)) / (decoding + encoding))
    return statistics.median(ratios)


def write_long(path, minutes):
    """Write a generated video, 640 x 360, 25 frames per second, frame by frame."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, size=(360, 1280, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 360, 640, "yuv420p"
        for i in range(round(minutes * 60 * 25)):
            frame = np.ascontiguousarray(picture[:, i % 640 : i % 640 + 640])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def peak_memory(paths, recipe, arguments):
    """Return the peak memory of an extraction in a process of its own, in megabytes.

    Without `arguments` the encoder does nothing.
    """
    command = [sys.executable, "-P", __file__, "--child", json.dumps([paths, recipe, arguments])]
    return float(subprocess.check_output(command, text=True).splitlines()[-1])


def extract_in_child(paths, recipe, arguments):
    """Extract, then print the peak memory of this process."""
    if arguments is None:
        # With one window per frame, clips overlap so much that each frame is encoded once instead.
        layout = "BCHW" if recipe["stride"] == 1 else "BCTHW"
        extractor = TSEExtractor(nothing, frame_size=SIZE, layout=layout, **recipe)
    else:
        encoder = call_named(*arguments)
        extractor = TSEExtractor(encoder, layout="BCHW", mean=0.5, std=0.5, **recipe)
    extractor.transform(paths)
    status = Path("/proc/self/status").read_text()  # getrusage counts the parent's memory as well
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)


def main():
    """Print all three measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--encoder", help="FILE.py:FUNCTION, an encoder of images in [-1, 1]")
    parser.add_argument("--argument", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        extract_in_child(*arguments.child)
        return

    paths = videos_in(arguments.folder)
    throughput = measure_throughput(paths, arguments.rounds)
    print(f"decoding and windowing: {throughput['of plain decoding']:.2f} of plain decoding")
    print(f"                        {throughput['frames/s']:.0f} frames/s")
    print(f"overlap: {measure_overlap(paths, arguments.rounds):.2f} of the sum")
    if arguments.encoder:
        largest = sorted(paths, key=lambda path: -Path(path).stat().st_size)[:4]
        for name, recipe in RECIPES.items():
            peak = peak_memory(largest, recipe, [arguments.encoder, *arguments.argument])
            print(f"memory, {name}, {[Path(path).name for path in largest]}: {peak:.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in arguments.minutes:
            path = Path(folder) / f"{minutes:g}.mp4"
            write_long(path, minutes)
            for name, recipe in RECIPES.items():
                peak = peak_memory([str(path)], recipe, None)
                print(f"memory, {name}, {minutes:g} minute(s): {peak:.0f} MB")


if __name__ == "__main__":
    main()
