"""Learned temporal matching of embedding sequences (DejaVid) with scikit-learn's API."""

from importlib import import_module
from importlib.metadata import version
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skdejavid import alignment as alignment
    from skdejavid import classifier as classifier
    from skdejavid import datasets as datasets
    from skdejavid import inspection as inspection
    from skdejavid import interchange as interchange
    from skdejavid import nn as nn
    from skdejavid import plotting as plotting
    from skdejavid import preprocessing as preprocessing
    from skdejavid import sequences as sequences
    from skdejavid import store as store
    from skdejavid import video as video
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

# Names are imported when they are first used, because scikit-learn takes seconds to import and some
# commands need nothing of it. Where each name is defined:
_MODULE_OF = {
    "AlignmentDisplay": "plotting",
    "DejaVidClassifier": "classifier",
    "Framewise": "preprocessing",
    "Interpolate": "preprocessing",
    "Resample": "preprocessing",
    "TSEArray": "sequences",
    "TSEExtractor": "video.extractor",
    "TSEStore": "store",
    "TimeDifferences": "preprocessing",
    "VideoDecodeError": "video.opening",
    "built_with_cuda": "_core",
    "check_sequences": "sequences",
    "cuda_device_count": "_core",
    "dtw_distances": "alignment",
    "dtw_path": "alignment",
    "find_videos": "video.listing",
    "show_versions": "_show_versions",
}

_SUBMODULES = (
    *("alignment", "classifier", "datasets", "inspection", "interchange", "nn", "plotting"),
    *("preprocessing", "sequences", "store", "video"),
)

if not TYPE_CHECKING:  # a type checker would take every name for one of the package

    def __getattr__(name):
        """Import a name, or a submodule, when it is first used."""
        if name in _SUBMODULES:
            return _import(name)
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(_import(_MODULE_OF[name]), name)
        return value


# Of the threads that import at the same time, one would otherwise find modules of scikit-learn that
# another one has begun to import.
_importing = RLock()


def _import(module: str) -> ModuleType:
    try:
        with _importing:
            return import_module(f"skdejavid.{module}")
    except AttributeError as error:  # of a broken installation: nobody would see it
        raise ImportError(f"skdejavid.{module} cannot be imported: {error}") from error


def __dir__() -> list[str]:
    # Without `nn`, until it is loaded: it imports torch, and who looks at all names expects no
    # error if torch is not installed.
    return sorted({*globals(), *__all__, *_SUBMODULES} - ({"nn"} - globals().keys()))
