"""The transformer from videos to sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from tqdm import tqdm

from skdejavid.reading import as_video
from skdejavid.sequences import TSEArray
from skdejavid.video.decoding import VideoDecodeError, count_frames, decode, to_rgb
from skdejavid.video.windows import cut_clips, window_frames

__all__ = ["TSEExtractor"]


class TSEExtractor(TransformerMixin, BaseEstimator):
    """Turn videos into sequences of embeddings: slide a window, encode each clip.

    Parameters
    ----------
    encoder : torch.nn.Module or callable
        Takes a float batch of clips in `layout`, returns a tensor ``(n_clips, n_features)`` or a
        tuple of such tensors, for example (embedding, logits), which are joined. A module is used
        in evaluation mode, on its own device and in its own precision, and left as it was found.
        Cloning the extractor does not copy it.

    width : int or float, default=0.2
        Width of the window: frames if int, a fraction of the video if float.

    stride : int or float, default=0.025
        Step from window to window, like `width`. The defaults are the paper's recipe for
        Kinetics-400 and HMDB51, 33 windows for a video of any length.

    clip_length : int or None, default=16
        Number of frames of each window that the encoder sees, evenly spaced. None means all of
        them; `width` must be an int then.

    layout : {"BCTHW", "BTCHW", "BCHW"}, default="BCTHW"
        Order of the axes the encoder expects: batch, channels (RGB), time, height, width. "BCHW" is
        for encoders of single images; their embeddings are averaged inside each window.

    frame_size : int or None, default=224
        Frames are scaled until their shorter side has this size, then cropped to the centered
        square. None leaves them as they are.

    mean, std : float or sequence of 3 floats, default=None
        What the encoder expects of its input: values between 0 and 1 have `mean` subtracted and are
        divided by `std`. None leaves out that step.

    batch_size : int, default=8
        Number of clips per call of the encoder.

    verbose : int, default=0
        Whether to show a progress bar.

    See Also
    --------
    DejaVidClassifier : Learns from the sequences.

    Notes
    -----
    A video shorter than one window gives one clip in which its last frame is repeated; frames after
    the last complete window are not seen. Files are decoded sequentially, so frame i is frame i in
    any container, and twice, once to count the frames. The memory needed does not grow with the
    length of a video: no more frames are held than one window spans, and `batch_size` clips.

    Examples
    --------
    >>> import numpy as np
    >>> from skdejavid import TSEExtractor
    >>> video = np.zeros((40, 32, 48, 3), dtype=np.uint8)
    >>> extractor = TSEExtractor(lambda clips: clips.mean(dim=(2, 3, 4)), frame_size=32)
    >>> extractor.fit_transform([video])
    TSEArray(n_sequences=1, n_frames=33, n_features=3, dtype=float32)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "encoder": [callable],
        "width": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
        ],
        "stride": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
        ],
        "clip_length": [None, Interval(Integral, 1, None, closed="left")],
        "layout": [StrOptions({"BCTHW", "BTCHW", "BCHW"})],
        "frame_size": [None, Interval(Integral, 1, None, closed="left")],
        "mean": [None, Real, "array-like"],
        "std": [None, Real, "array-like"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        encoder: Callable[[Any], Any],
        *,
        width: int | float = 1 / 5,
        stride: int | float = 1 / 40,
        clip_length: int | None = 16,
        layout: str = "BCTHW",
        frame_size: int | None = 224,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        batch_size: int = 8,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.width = width
        self.stride = stride
        self.clip_length = clip_length
        self.layout = layout
        self.frame_size = frame_size
        self.mean = mean
        self.std = std
        self.batch_size = batch_size
        self.verbose = verbose

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Check the parameters; nothing is learned.

        Parameters
        ----------
        X, y : ignored
            Present for scikit-learn's pipelines.

        Returns
        -------
        self : TSEExtractor
        """
        self._check_parameters()
        return self

    def transform(self, X: Iterable[Any]) -> TSEArray:
        """Encode videos.

        Parameters
        ----------
        X : list or array of videos
            Each the path of a file, or an array ``(n_frames, height, width, 3)`` of uint8 RGB.

        Returns
        -------
        TSEArray
            One sequence ``(n_windows, n_features)`` per video, in the order of `X`.

        Raises
        ------
        TypeError
            If `X` is a single path, or an item of it neither a path nor an array.
        ValueError
            If an array is not a video, or the encoder returns NaN or something of the wrong shape;
            the message names the video.
        FileNotFoundError, VideoDecodeError
            If a file is missing or broken.
        """
        self._check_parameters()
        videos = _check_videos(X)
        from skdejavid.video.encoders import inference  # torch takes seconds to import

        rows: list[NDArray[np.floating]] = []
        owners: list[int] = []
        with inference(self.encoder):
            for batch in self._batches(tqdm(videos, desc="videos", disable=not self.verbose)):
                indices, clips = zip(*batch, strict=True)
                embeddings = self._encode(clips)
                _require_valid(embeddings, indices, videos, rows, owners)
                rows.append(embeddings)
                owners.extend(indices)
        lengths = np.bincount(owners)
        return TSEArray.from_packed(np.concatenate(rows), np.append(0, np.cumsum(lengths)))

    def __sklearn_clone__(self) -> Self:
        """A clone that shares the encoder, which may be gigabytes in size."""
        return type(self)(**self.get_params(deep=False))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def _check_parameters(self) -> None:
        self._validate_params()
        window_frames(1, self.width, self.stride, self.clip_length)

    def _batches(self, videos: Iterable[Any]) -> Iterator[list[tuple[int, NDArray[np.uint8]]]]:
        """Pairs (number of the video, clip), at most `batch_size` and all of one shape."""
        batch: list[tuple[int, NDArray[np.uint8]]] = []
        for i, video in enumerate(videos):
            for clip in self._clips(video):
                if batch and (len(batch) == self.batch_size or batch[0][1].shape != clip.shape):
                    yield batch
                    batch = []
                batch.append((i, clip))
        yield batch

    def _clips(self, video: Any) -> Iterator[NDArray[np.uint8]]:
        """The clips (clip_length, height, width, 3) of one video, one per window."""
        from skdejavid.video.encoders import resize_and_crop

        is_file = not isinstance(video, np.ndarray)
        n_frames = count_frames(video) if is_file else len(video)
        shown = window_frames(n_frames, self.width, self.stride, self.clip_length)

        sizes: set[tuple[int, ...]] = set()

        def prepare(frame: Any) -> NDArray[np.uint8]:
            pixels = resize_and_crop(to_rgb(frame) if is_file else frame, self.frame_size)
            sizes.add(pixels.shape)
            if len(sizes) > 1:
                raise VideoDecodeError(
                    f"{video}: frames of differing sizes {sorted(sizes)}, set frame_size"
                )
            return pixels

        frames: Iterable[Any] = decode(video) if is_file else video
        return cut_clips(frames, shown, prepare)

    def _encode(self, clips: Sequence[NDArray[np.uint8]]) -> NDArray[np.floating]:
        from skdejavid.video.encoders import encode

        return encode(self.encoder, clips, layout=self.layout, mean=self.mean, std=self.std)


def _check_videos(X: Any) -> list[Any]:
    """The videos as a list of paths and uint8 arrays."""
    if isinstance(X, (str, bytes, PathLike)):
        raise TypeError(f"X is a single path, expected a list of videos: pass [{X!r}]")
    if hasattr(X, "columns"):
        raise TypeError(f"X is a {type(X).__name__}, expected a list of videos: pass one column")
    if isinstance(X, np.ndarray) and X.ndim == 4:
        raise ValueError(f"X is a single video of shape {X.shape}, expected a list: pass [X]")
    videos = [_check_video(video, i) for i, video in enumerate(X)]
    if not videos:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    return videos


def _check_video(video: Any, index: int) -> Any:
    if isinstance(video, (str, PathLike)):
        return fspath(video)
    if not hasattr(video, "__array__"):
        raise TypeError(
            f"X[{index}] is a {type(video).__name__}, expected the path of a video or an array "
            "(n_frames, height, width, 3)"
        )
    return as_video(video, f"X[{index}]")


def _require_valid(
    embeddings: NDArray[np.floating],
    indices: Sequence[int],
    videos: Sequence[Any],
    earlier: Sequence[NDArray[np.floating]],
    owners: Sequence[int],
) -> None:
    """Refuse embeddings that are not finite, or not as wide as all before them."""

    def name(row: int) -> str:
        video = videos[indices[row]]
        return f"X[{indices[row]}] ({video if isinstance(video, str) else 'an array'})"

    if earlier and earlier[0].shape[1] != embeddings.shape[1]:
        raise ValueError(
            f"the encoder returned {embeddings.shape[1]} features for {name(0)}, "
            f"but {earlier[0].shape[1]} before"
        )
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        rows_before = np.concatenate([np.asarray(owners), np.asarray(indices[:row])])
        window = int((rows_before == indices[row]).sum())
        raise ValueError(f"the encoder returned NaN or infinity for window {window} of {name(row)}")
