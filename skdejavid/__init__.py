"""Learned temporal matching of embedding sequences (DejaVid) with scikit-learn's API."""

from importlib.metadata import version

from skdejavid._core import built_with_cuda, cuda_device_count
from skdejavid._show_versions import show_versions
from skdejavid.alignment import dtw_distances, dtw_path
from skdejavid.classifier import DejaVidClassifier
from skdejavid.plotting import AlignmentDisplay
from skdejavid.preprocessing import Framewise, Interpolate, Resample, TimeDifferences
from skdejavid.sequences import TSEArray, check_sequences
from skdejavid.store import TSEStore
from skdejavid.video.extractor import TSEExtractor
from skdejavid.video.listing import find_videos
from skdejavid.video.opening import VideoDecodeError

__version__ = version("skdejavid")

__all__ = [
    "AlignmentDisplay",
    "DejaVidClassifier",
    "Framewise",
    "Interpolate",
    "Resample",
    "TSEArray",
    "TSEExtractor",
    "TSEStore",
    "TimeDifferences",
    "VideoDecodeError",
    "__version__",
    "built_with_cuda",
    "check_sequences",
    "cuda_device_count",
    "dtw_distances",
    "dtw_path",
    "find_videos",
    "show_versions",
]
