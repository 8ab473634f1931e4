"""The plans of a video and its clips, as the encoder gets them."""

import numpy as np

from skdejavid.video.clips import read_frames
from skdejavid.video.windows import ClipCutter, WindowPlan

__all__ = ["read_clips"]


def read_clips(video, spec, **options):
    """Yield each plan, followed by its clips (clip_length, 3, height, width)."""
    for item in read_frames(video, spec, **options):
        if isinstance(item, WindowPlan):
            cutter = ClipCutter(item.clip_frames)
            yield item
        else:
            for clip in cutter.add(item.number, item.pixels):
                yield np.stack(clip)
