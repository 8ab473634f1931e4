"""The transformer from videos to sequences."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from skdejavid.compat.sklearn import Interval, StrOptions
from skdejavid.compat.threads import count_threads
from skdejavid.preprocessing import SequenceTransformer
from skdejavid.sequences import TSEArray
from skdejavid.store import TSEStore
from skdejavid.video.clips import Recipe
from skdejavid.video.pipeline import Extraction, InMemory, Sink
from skdejavid.video.sources import (
    Source,
    as_sources,
    identified,
    named,
    require_clock,
    require_same_file,
)
from skdejavid.video.windows import Length

__all__ = ["TSEExtractor"]

_PROCEDURE = 1  # to be raised when the same parameters give other sequences than before


class TSEExtractor(ClassNamePrefixFeaturesOutMixin, SequenceTransformer):
    """Turn videos into sequences of embeddings: slide windows, encode each clip.

    Parameters
    ----------
    encoder : torch.nn.Module, callable, or str
        Takes a float batch of clips in `layout`, returns a tensor ``(n_clips, n_features)``, a
        tuple (embedding, logits), or a mapping with these names; also a Hugging Face model, or the
        name or folder of one. A module is used in evaluation mode and left as it was found. Cloning
        the extractor does not copy it.

    width : int, float, str, or sequence of them, default=0.2
        Width of the window: frames if int, a fraction of the video if float, seconds if a string
        such as ``"1.5s"``. Several widths slide in parallel, and their embeddings are joined; see
        Notes.

    stride : int, float or str, default=0.025
        Step from window to window, like `width`. The defaults are the paper's recipe for
        Kinetics-400 and HMDB51, 33 windows for a video of any length. That for Something-Something
        V2 is ``width=(16, 32, 64, 1.0), stride=1``.

    clip_length : int, None or "auto", default="auto"
        Number of frames of each window that the encoder sees, evenly spaced. None means all of
        them; `width` must be one int then. "auto" is what a Hugging Face model was made for, 16 for
        all else.

    layout : {"BCTHW", "BTCHW", "BCHW", "auto"}, default="auto"
        Order of the axes the encoder expects: batch, channels (RGB), time, height, width. "BCHW" is
        for encoders of single images: each frame is encoded once, and embeddings are averaged
        inside each window. "auto" is that of a Hugging Face model, "BCTHW" for all else.

    frame_size : int, pair of ints, None or "auto", default="auto"
        Frames are scaled until their shorter side has this size, then cropped to the centered
        square; a pair gives one size for each of these steps. None leaves frames as they are.
        "auto" is what a Hugging Face processor does, 224 for all else.

    mean, std : float, sequence of 3 floats, None or "auto", default="auto"
        What the encoder expects of its input: values between 0 and 1 have `mean` subtracted and are
        divided by `std`. None leaves out that step. "auto" is what a Hugging Face processor does,
        None for all else.

    features : {"both", "embedding", "logits"}, default="both"
        What to take of an encoder that gives embedding and logits; "both" joins them, as the paper
        does, and takes what there is of one that gives a single tensor.

    head : str, default=None
        Name of the submodule that turns the embedding into logits, such as ``"fc"`` or
        ``"head"``: what goes into it is the embedding, and what comes out of it the logits. Hugging
        Face classifiers need none.

    batch_size : int, default=8
        Number of clips per call of the encoder, or of images with layout "BCHW".

    device : str or torch.device, default=None
        Where a module computes; it is moved there and back. None leaves it where it is.

    autocast : {"float16", "bfloat16"}, default=None
        Half precision for a module's operations that bear it, through ``torch.autocast``.

    n_jobs : int, default=None
        Number of videos that are read at the same time, each by a thread, while the encoder works.
        None and -1 are all cores. Results do not depend on it.

    on_error : {"raise", "skip", "warn"}, default="raise"
        What to do about a video that cannot be read, or whose embeddings are not finite: end with
        its error, or leave it out, without or with a warning. What was left out is in `failures_`;
        ``X[kept_]`` and ``y[kept_]`` are what the result holds.

    short : {"pad", "raise"}, default="pad"
        What to do about a video shorter than one window: repeat its last frame, or refuse it.

    max_pixels : int or None, default=2**26
        Frames of more pixels than this are refused before they are decoded; the default is the size
        of 8192 x 8192. None means no limit.

    store : str or path, default=None
        Folder in which sequences are kept, see :class:`TSEStore`. What it holds already is not
        encoded again, in this process or any other, and an extraction that was interrupted goes on
        after the last batch. ``"{fingerprint}"`` in it stands for what tells encoder and windows
        apart; without, a store that was made by others is refused.

    store_dtype : {"float32", "float64", "float16"}, default="float32"
        Type in which a new store keeps sequences; float16 takes half the space.

    encoder_id : str, default=None
        By what the store knows the encoder. None makes it out of the module's structure and
        parameters, or the code of a plain function and what it refers to.

    verbose : int, default=0
        Whether to show progress: videos per second and the time left.

    Attributes
    ----------
    n_features_out_ : int
        Number of features of the sequences that `transform` made last.

    failures_ : list of Failure
        The videos that the last `transform` or `extract` left out: id, frame, cause.

    kept_ : ndarray of int64
        Which items of `X` the sequences that `transform` made last belong to: all, unless some were
        left out.

    See Also
    --------
    DejaVidClassifier : Learns from the sequences.
    TSEStore : Sequences on disk.

    Notes
    -----
    Windows begin at 0, `stride`, 2 * `stride`, ... and end inside the video; a video shorter than
    one window gives one in which its last frame is repeated (see `short`). Several widths give, for
    each multiple of `stride` until the end of the video, one window of each width around that
    moment; what would stick out of the video is moved inside. Windows that show the same frames are
    encoded once.

    The sequences remember what each frame stands for: ``spans`` of the :class:`TSEArray` are the
    begin and end of its window in seconds (for videos given as arrays, which have no clock, in
    frames).

    Files are decoded sequentially and once, so frame i is frame i in any container, and scaled
    while their colors are converted. The memory needed does not grow with the length of a video: no
    more frames are held than the windows around one moment show, and some clips ahead of the
    encoder.

    Examples
    --------
    >>> import numpy as np
    >>> from skdejavid import TSEExtractor
    >>> video = np.zeros((40, 32, 48, 3), dtype=np.uint8)
    >>> extractor = TSEExtractor(lambda clips: clips.mean(dim=(2, 3, 4)), frame_size=32)
    >>> extractor.fit_transform([video])
    TSEArray(n_sequences=1, n_frames=33, n_features=3, dtype=float32)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "encoder": [callable, str, PathLike],
        "width": [Real, str, "array-like"],
        "stride": [Real, str],
        "clip_length": [None, Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "layout": [StrOptions({"BCTHW", "BTCHW", "BCHW", "auto"})],
        "frame_size": [
            None,
            Interval(Integral, 1, None, closed="left"),
            "array-like",
            StrOptions({"auto"}),
        ],
        "mean": [None, Real, "array-like", StrOptions({"auto"})],
        "std": [None, Real, "array-like", StrOptions({"auto"})],
        "features": [StrOptions({"both", "embedding", "logits"})],
        "head": [None, str],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": "no_validation",  # torch says what it is
        "autocast": [None, StrOptions({"float16", "bfloat16"})],
        "n_jobs": [None, Integral],
        "on_error": [StrOptions({"raise", "skip", "warn"})],
        "short": [StrOptions({"pad", "raise"})],
        "max_pixels": [None, Interval(Integral, 1, None, closed="left")],
        "store": [None, str, PathLike],
        "store_dtype": [StrOptions({"float32", "float64", "float16"})],
        "encoder_id": [None, str],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        encoder: Any,
        *,
        width: Length | Sequence[Length] = 1 / 5,
        stride: Length = 1 / 40,
        clip_length: int | str | None = "auto",
        layout: str = "auto",
        frame_size: int | tuple[int, int] | str | None = "auto",
        mean: float | Sequence[float] | str | None = "auto",
        std: float | Sequence[float] | str | None = "auto",
        features: str = "both",
        head: str | None = None,
        batch_size: int = 8,
        device: Any = None,
        autocast: str | None = None,
        n_jobs: int | None = None,
        on_error: str = "raise",
        short: str = "pad",
        max_pixels: int | None = 2**26,
        store: str | PathLike[str] | None = None,
        store_dtype: str = "float32",
        encoder_id: str | None = None,
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
        self.features = features
        self.head = head
        self.batch_size = batch_size
        self.device = device
        self.autocast = autocast
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.short = short
        self.max_pixels = max_pixels
        self.store = store
        self.store_dtype = store_dtype
        self.encoder_id = encoder_id
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
        self._validate_params()
        self._settings()
        return self

    def transform(self, X: Iterable[Any]) -> TSEArray:
        """Encode videos, or take their sequences from the store.

        Parameters
        ----------
        X : list or array of videos
            Each the path of a file, or an array ``(n_frames, height, width, 3)`` of uint8 RGB.

        Returns
        -------
        TSEArray
            One sequence ``(n_windows, n_features)`` per video, in the order of `X`; without those
            that `on_error` left out. With a store a memory map of it.

        Raises
        ------
        TypeError
            If `X` is a single path, or an item of it neither a path nor an array.
        ValueError
            If an array is not a video, if the encoder returns NaN or something of the wrong shape;
            the message names the video. If the store was made by another encoder or with other
            windows, or holds a file of the same name and another size. If no video is left.
        FileNotFoundError, VideoDecodeError, ValueError
            If a file is missing or broken, or `short` or `max_pixels` refuse it, unless `on_error`
            says otherwise.
        """
        self._validate_params()
        sources = as_sources(X)
        result = self._encode(sources) if self.store is None else self._look_up(sources)
        self.n_features_out_ = result.n_features
        return result

    def extract(
        self,
        X: Iterable[Any],
        *,
        ids: Sequence[str] | None = None,
        shard: tuple[int, int] | None = None,
    ) -> TSEStore:
        """Encode into the store those of the videos that it does not hold yet.

        Parameters
        ----------
        X : list or array of videos
            As in `transform`.

        ids : sequence of str, default=None
            By which names the store knows them. None takes paths as they are given, and for arrays
            what follows from their content.

        shard : pair of ints, default=None
            (rank, number of ranks): of `X`, without repetitions, only ``X[rank::n_ranks]`` is
            encoded, into a part of the store that no other rank writes to. The store is complete
            when all ranks are done; each must be given the same `X`. None encodes all of `X`.

        Returns
        -------
        TSEStore
            The store, which gives the sequences of all ranks in the order of `X`.

        Raises
        ------
        As `transform`.
        """
        self._validate_params()
        if self.store is None:
            raise ValueError("extract needs the parameter store: the folder to write to")
        sources = named(as_sources(X), ids)
        if shard is None:
            store = self._fill(sources)
        else:
            rank, n_ranks = shard
            if not 0 <= rank < n_ranks:
                raise ValueError(
                    f"shard must be (rank, n_ranks) with 0 <= rank < n_ranks, got {shard}"
                )
            distinct = list({source.id: source for source in reversed(sources)}.values())[::-1]
            store = self._fill(distinct[rank::n_ranks], rank, n_ranks)
        self.n_features_out_ = store.n_features or 0
        return store

    def encoder_fingerprint(self) -> str:
        """What tells the encoder from others, as a store remembers it.

        Raises
        ------
        ValueError
            If it cannot be told, see the parameter `encoder_id`.
        """
        from skdejavid.video.encoders import fingerprint, load_encoder

        return fingerprint(load_encoder(self.encoder), self.encoder_id)

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

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self, "n_features_out_")
        return self.n_features_out_

    def _settings(self) -> _Settings:
        """The parameters, with what the encoder says instead of "auto"."""
        from skdejavid.video.encoders import input_spec, load_encoder

        encoder = load_encoder(self.encoder)
        spec = input_spec(encoder)

        def chosen(name: str, default: Any) -> Any:
            value = getattr(self, name)
            if not (isinstance(value, str) and value == "auto"):
                return value
            known = None if spec is None else getattr(spec, name)
            return default if known is None else known

        layout = chosen("layout", "BCTHW")
        one_by_one = layout == "BCHW"
        shorter_side, crop = self._frame_size(spec)
        recipe = Recipe(
            width=self.width if isinstance(self.width, (int, float, str)) else tuple(self.width),
            stride=self.stride,
            clip_length=chosen("clip_length", 16),
            one_by_one=one_by_one,
            shorter_side=shorter_side,
            crop=crop,
            short=self.short,
            max_pixels=self.max_pixels,
        )
        recipe.check()
        return _Settings(encoder, recipe, layout, chosen("mean", None), chosen("std", None))

    def _frame_size(self, spec: Any) -> tuple[int | None, int | None]:
        """What the shorter side of frames is scaled to, and the size of the crop."""
        size = self.frame_size
        if isinstance(size, str):
            return (spec.shorter_side, spec.crop) if spec is not None else (224, 224)
        if size is None or isinstance(size, (int, np.integer)):
            return size, size
        sizes = tuple(size)
        if len(sizes) != 2 or not all(isinstance(item, Integral) and item > 0 for item in sizes):
            raise ValueError(
                "frame_size must be a positive int or a pair (shorter side, crop) of them, got "
                f"{size!r}"
            )
        return sizes

    def _encode(self, sources: Sequence[Source]) -> TSEArray:
        """Sequences in memory; a file is encoded as often as it is named."""
        sink = InMemory()
        self._extract([source._replace(id=str(source.position)) for source in sources], sink)
        self.failures_ = [
            failure._replace(id=sources[int(position)].id)
            for position, failure in sink.failures.items()
        ]
        self._keep(
            [source.position for source in sources if str(source.position) in sink.sequences]
        )
        values, spans = zip(*sink.sequences.values(), strict=True)
        offsets = np.append(0, np.cumsum([len(rows) for rows in values]))
        return TSEArray.from_packed(np.concatenate(values), offsets, np.concatenate(spans))

    def _look_up(self, sources: Sequence[Source]) -> TSEArray:
        """Sequences of the store, after encoding those that it did not hold."""
        sources = identified(sources)
        store = self._fill(sources)
        self._keep([source.position for source in sources if source.id in store])
        return store.sequences([sources[position].id for position in self.kept_])

    def _extract(self, sources: Sequence[Source], sink: Sink) -> None:
        """Encode all `sources`, in their order."""
        from skdejavid.video.encoders import ClipEncoder

        settings = self._settings()
        if settings.recipe.needs_clock:
            require_clock(sources)
        encoder = ClipEncoder(
            settings.encoder,
            layout=settings.layout,
            features=self.features,
            head=self.head,
            mean=settings.mean,
            std=settings.std,
            device=self.device,
            autocast=self.autocast,
        )
        with (
            encoder.session(),
            tqdm(total=len(sources), desc="videos", unit="video", disable=not self.verbose) as bar,
        ):
            extraction = Extraction(
                sources,
                settings.recipe,
                encoder.encode,
                sink,
                batch_size=self.batch_size,
                on_error=self.on_error,
                progress=bar.update,
            )
            extraction.run(count_threads(self.n_jobs))

    def _fill(
        self, sources: Sequence[Source], rank: int = 0, n_ranks: int | None = None
    ) -> TSEStore:
        """The store, after encoding those of `sources` that it did not hold.

        A new one has `n_ranks` shards, one that is there must have as many; None takes any.
        """
        store = self._open_store(n_ranks)
        unique = list({source.id: source for source in sources}.values())
        if not store.is_complete or self._missing(unique, store):
            with store.write(rank) as writer:  # waits for others who write
                missing = self._missing(unique, writer)
                held = writer.held
                if held is not None and not (missing and missing[0].id == held[0]):
                    writer.release()
                if missing:
                    self._extract(missing, writer)
            store = TSEStore(store.path)
        known = {failure.id: failure for failure in store.failures}
        self.failures_ = [known[source.id] for source in unique if source.id in known]
        return store

    def _open_store(self, n_shards: int | None) -> TSEStore:
        settings = self._settings()
        recipe = settings.recipe
        made_by = {
            "procedure": _PROCEDURE,
            "encoder": self.encoder_fingerprint(),
            "width": recipe.width,
            "stride": recipe.stride,
            "clip_length": recipe.clip_length,
            "layout": settings.layout,
            "frame_size": [recipe.shorter_side, recipe.crop],
            "mean": settings.mean,
            "std": settings.std,
            "features": self.features,
            "head": self.head,
            "autocast": self.autocast,
        }
        made_by = {name: _as_json(value) for name, value in made_by.items()}
        digest = blake2b(json.dumps(made_by, sort_keys=True).encode(), digest_size=8).hexdigest()
        path = fspath(self.store or "").replace("{fingerprint}", digest)
        if n_shards is None:
            is_there = os.path.exists(os.path.join(path, "manifest.json"))
            n_shards = TSEStore(path).n_shards if is_there else 1
        return TSEStore.create(path, dtype=self.store_dtype, fingerprint=made_by, n_shards=n_shards)

    def _missing(self, sources: Sequence[Source], store: Any) -> list[Source]:
        """Those of `sources` that the store, or its writer, knows nothing of."""
        failed = {failure.id: failure for failure in store.failures}
        missing = []
        for source in sources:
            if source.id in store:
                require_same_file(source, store.n_bytes(source.id))
            elif source.id not in failed or self.on_error == "raise":
                missing.append(source)
            elif failed[source.id].n_bytes != source.n_bytes:
                missing.append(source)  # it may be whole now
        return missing

    def _keep(self, kept: Sequence[int]) -> None:
        """Remember which videos gave a sequence; at least one must have."""
        self.kept_ = np.array(kept, dtype=np.int64)
        if not kept:
            failed = self.failures_[0].cause if self.failures_ else "X is empty"
            raise ValueError(f"no video of X could be encoded; the first: {failed}")


class _Settings(NamedTuple):
    """What the parameters of an extractor come to."""

    encoder: Any
    recipe: Recipe
    layout: str
    mean: Any
    std: Any


def _as_json(value: Any) -> Any:
    """Numbers and sequences of them as plain Python objects."""
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value
