"""Measure how much of an encoder's speed an extraction reaches.

    python benchmarks/bench_pipeline.py [path/to/videos] [--device cuda] [--size base]

The encoder is VideoMAE with random weights, in bfloat16 autocast on a card. Its speed is measured
alone, on a batch that is on the device already, and in an extraction with the paper's windows for
Kinetics-400 (33 of 16 frames per video). A ratio of 1 means that the device never waits; the bar
shows what the extraction waits for. Without a folder, videos are generated.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from skdejavid import TSEExtractor, find_videos
from skdejavid.datasets import write_video

N_WINDOWS = 33
SIZES = {
    "base": {},  # the defaults of the config: 12 layers of 768
    "tiny": {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 64,
    },
}


def make_encoder(size):
    """Return VideoMAE with random weights."""
    torch.manual_seed(0)
    return VideoMAEForVideoClassification(VideoMAEConfig(num_frames=16, **SIZES[size])).eval()


def write_videos(folder, n_videos, n_frames):
    """Write videos of a moving picture, 320 x 240."""
    rng = np.random.default_rng(0)
    for i in range(n_videos):
        picture = rng.integers(0, 256, size=(30, 100, 3), dtype=np.uint8)
        wide = picture.repeat(8, axis=0).repeat(8, axis=1)
        frames = np.stack([wide[:, k : k + 320] for k in np.arange(n_frames) % 400])
        write_video(Path(folder) / f"{i}.mp4", frames)


def synchronize(device):
    """Wait until a card has computed everything."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def speed_alone(encoder, device, dtype, batch_size, n_batches):
    """Return windows per second of the encoder on one batch that is on the device."""
    encoder = encoder.to(device)
    size = encoder.config.image_size
    batch = torch.zeros(batch_size, 16, 3, size, size, device=device)
    enabled = dtype is not None
    autocast = torch.autocast(device.split(":")[0], dtype=dtype, enabled=enabled)
    with torch.inference_mode(), autocast:
        for _ in range(2):
            encoder(batch)
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(n_batches):
            encoder(batch)
        synchronize(device)
    return batch_size * n_batches / (time.perf_counter() - begin)


def speed_of_extraction(extractor, paths):
    """Return windows per second of an extraction."""
    begin = time.perf_counter()
    n_windows = len(extractor.transform(paths).frames)
    return n_windows / (time.perf_counter() - begin)


def measure(paths, arguments):
    """Print both speeds and their ratio."""
    encoder, device = make_encoder(arguments.size), arguments.device
    autocast = "bfloat16" if device.startswith("cuda") else None
    options = {"device": device, "autocast": autocast, "batch_size": arguments.batch_size}
    extractor = TSEExtractor(
        encoder, processor=None, mean=0.45, std=0.225, n_jobs=arguments.jobs, verbose=1, **options
    )
    extractor.transform(paths[:2])  # pins memory and chooses kernels
    n_batches = max(1, N_WINDOWS * len(paths) // arguments.batch_size)
    dtype = torch.bfloat16 if autocast else None
    alone, together = [], []
    for _ in range(arguments.rounds):
        alone.append(speed_alone(encoder, device, dtype, arguments.batch_size, n_batches))
        together.append(speed_of_extraction(extractor, paths))
    ratios = [ours / theirs for ours, theirs in zip(together, alone, strict=True)]
    print(f"encoder alone: {statistics.median(alone):.1f} windows/s")
    print(f"extraction:    {statistics.median(together):.1f} windows/s")
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main():
    """Measure on the given or generated videos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.folder is None:
            write_videos(folder, arguments.videos, arguments.frames)
        paths = find_videos(arguments.folder or folder)
        measure([str(path) for path in paths][: arguments.videos], arguments)


if __name__ == "__main__":
    main()
