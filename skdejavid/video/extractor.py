"""Transformer from videos to sequences of embeddings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skdejavid.compat.forks import survive_fork
from skdejavid.compat.parameters import as_python
from skdejavid.compat.sklearn import Interval, StrOptions
from skdejavid.compat.threads import count_threads
from skdejavid.preprocessing import SequenceTransformer
from skdejavid.sequences import TSEArray
from skdejavid.sequences.layout import offsets_of
from skdejavid.store import Failure, StoreWriter, TSEStore
from skdejavid.video.pipeline import Extraction, InMemory, Sink, warn_of_left_out
from skdejavid.video.progress import Progress
from skdejavid.video.sources import (
    Source,
    as_sources,
    check_has_clock,
    with_ids,
)
from skdejavid.video.stored import Missing, failures_of, missing_from, open_store
from skdejavid.video.windows import Length

if TYPE_CHECKING:
    from skdejavid.video.settings import Settings

__all__ = ["TSEExtractor"]


class TSEExtractor(ClassNamePrefixFeaturesOutMixin, SequenceTransformer):
    """Transform videos into sequences of embeddings by encoding sliding windows.

    Parameters
    ----------
    encoder : torch.nn.Module, callable, or str
        Module or function that takes a float batch of clips in `layout` and returns a tensor
        ``(n_clips, n_features)``, a tuple (embedding, logits), or a mapping with the keys
        ``"embedding"`` and ``"logits"``; or a Hugging Face model, or its name or folder. An
        extraction copies a module, or the module that a method belongs to, and runs the copy in
        evaluation mode: it uses the weights of the moment when it begins, and never changes the
        module, which other threads may use or train. Functions run as they are; a module in
        training mode that they refer to is an error. Clones of the extractor share the encoder.
        Of models that compare pictures or videos with text, such as CLIP, the features of the
        pictures are used.

    processor : Hugging Face processor, str, path or None, default="auto"
        Prepares frames for the encoder: a processor of pictures or videos, or its name or folder.
        "auto" uses the one that is stored with a Hugging Face model, and none for other encoders.
        What it does is measured with small pictures. Processors that do more than scaling, cropping
        and normalizing each frame to one size are refused. None uses none: frames are then scaled
        to the size that a Hugging Face model names, and values are between 0 and 1. It is not
        needed if `frame_size`, `mean` and `std` are set.

    width : int, float, str, or sequence of them, default=0.2
        Width of the window: number of frames if int, fraction of the video if float, seconds if a
        string such as ``"1.5s"``. Several widths slide in parallel and their embeddings are
        concatenated; see Notes.

    stride : int, float or str, default=0.025
        Step between windows, like `width`. The defaults are the paper's settings for Kinetics-400
        and HMDB51, which give 33 windows for a video of any length. Those for Something-Something
        V2 are ``width=(16, 32, 64, 1.0), stride=1``.

    clip_length : int, None or "auto", default="auto"
        Number of evenly spaced frames of each window that are passed to the encoder. None passes
        all frames; `width` must be a single int then. "auto" uses the number of frames that a
        Hugging Face model expects, and 16 for other encoders.

    layout : {"BCTHW", "BTCHW", "BCHW", "auto"}, default="auto"
        Order of the axes that the encoder expects: batch, channels (RGB), time, height, width. Use
        "BCHW" for image encoders: each frame is encoded once, and embeddings are averaged inside
        each window. "auto" uses the layout of a Hugging Face model, and "BCTHW" for other encoders.

    frame_size : int, pair of ints, None or "auto", default="auto"
        Frames are scaled until their shorter side has this size, then cropped to the centered
        square. A pair sets the sizes of the two steps separately. None keeps frames as they are.
        "auto" does what the processor does, with Pillow or torch as the processor itself, and uses
        224 for encoders without a processor.

    mean, std : float, sequence of 3 floats, None or "auto", default="auto"
        Normalization of the input: `mean` is subtracted from values between 0 and 1, which are then
        divided by `std`. None omits that step. "auto" uses the values of the processor, and None
        for encoders without one.

    features : {"both", "embedding", "logits"}, default="both"
        Outputs of the encoder to use. "both" concatenates embedding and logits, as the paper does;
        if the encoder returns a single tensor, that tensor is used.

    head : str, default=None
        Name of the submodule that computes logits from the embedding, such as ``"fc"`` or
        ``"head"``: its input is used as embedding and its output as logits. Hugging Face
        classifiers do not need it.

    batch_size : int, default=8
        Number of clips per call of the encoder, or of images with layout "BCHW".

    device : str or torch.device, default=None
        Device that an extraction copies a module to. None is the device of the module.

    autocast : {"float16", "bfloat16"}, default=None
        Use ``torch.autocast`` with this type for operations that support it.

    n_jobs : int, default=None
        Number of videos that are decoded at the same time, each in a thread, while the encoder
        runs. None and -1 use all cores. Results do not depend on it.

    on_error : {"raise", "skip", "warn"}, default="raise"
        Handling of videos that cannot be read, also only to compare them with those in the store,
        or whose embeddings are not finite: raise the error, or leave the video out, silently or
        with one warning of all at the end. `failures_` lists the videos left out; the result
        corresponds to ``X[kept_]`` and ``y[kept_]``.

    short : {"pad", "raise"}, default="pad"
        Handling of videos shorter than one window: repeat the last frame, or treat the video as an
        error.

    max_pixels : int or None, default=2**26
        Maximum number of pixels of a frame. Videos with larger frames are errors and are not
        decoded. The default is the size of 8192 x 8192. Frames may also not be too large for their
        file: what a decoder keeps of them, taken as 14 frames, may take 20 times the file plus 400
        MB. Each file may have frames of 4096 x 2304 pixels (in 4:4:4 with 10 bits from 20 MB on),
        a file of 15 MB frames of 8K (50 MB in 10 bits). None means neither limit.

    store : str or path, default=None
        Folder in which sequences are stored, see :class:`TSEStore`. Videos that are in the store
        are not encoded again, in this process or any other. An interrupted extraction resumes after
        the last stored batch. ``"{fingerprint}"`` in the path is replaced by a hash of the encoder
        and the settings. Without it, a store that was created with a different encoder or different
        settings raises ValueError.

        A file is the same as before if its size and modification time are. If only the size is, as
        after copying, its content decides; the store has a hash of it. A file with another size or
        content raises ValueError. A file that cannot be read is not tried again until it changes,
        if that is due to its content: what may pass, such as a missing file or permission, a
        network or an unfinished download, and what `short` and `max_pixels` refuse, is.

        An array is the same if its content is. To compare it, it is read completely.

    check_content : bool, default=False
        Whether to compare the content of files that are in the store even if their size and
        modification time are the same. This reads them completely, without decoding.

    retry_failures : bool, default=False
        Whether to try again to encode all videos that failed before, for example after an upgrade
        of PyAV. With ``on_error="raise"`` they are tried again anyway.

    store_dtype : {"float32", "float64", "float16"}, default="float32"
        Data type of a new store; float16 halves its size.

    encoder_id : str, default=None
        Identifier of the encoder recorded in the store. If None, it is derived from all that
        decides of the module: numbers, attributes, hooks and code. Required with `store` if the
        encoder is neither a module nor a method of one, is TorchScript, or contains objects that
        cannot be compared; use a different string for each encoder.

    verbose : int, default=0
        Whether to write to standard error what is encoded how (number of videos, encoder, device,
        windows, store), followed by a progress bar with the number of videos, the time left,
        windows per second, and the shares of the time that the extraction waits for decoding and
        for the encoder. In a file the bar is one line in half a minute.

    Attributes
    ----------
    n_features_out_ : int
        Number of features of the sequences that the last `transform` returned.

    failures_ : list of Failure
        Videos that the last `transform` or `extract` left out: id, frame, cause.

    kept_ : ndarray of int64
        Indices of the items of `X` that the sequences of the last `transform` belong to. All items,
        unless videos were left out.

    See Also
    --------
    find_videos : List the videos in a folder.
    DejaVidClassifier : Classifier for the sequences.
    TSEStore : Sequences on disk.

    Notes
    -----
    Windows start at 0, `stride`, 2 * `stride`, ... and end inside the video. A video shorter than
    one window gives one window in which its last frame is repeated (see `short`). With several
    widths there is, for each multiple of `stride` until the end of the video, one window of each
    width centered there. A window that would extend beyond the video is shifted inside. Windows
    with the same frames are encoded once.

    ``spans`` of the returned :class:`TSEArray` are the start and end of each window, in seconds.
    Videos given as arrays have no timestamps; their spans are in frames.

    Files are decoded sequentially and only once, so frame i is exactly the i-th frame in any
    container format. Frames are scaled during color conversion. Memory does not grow with the
    length of a video: only the frames of overlapping windows, on the device of the encoder, and 128
    MB of frames ahead of it are in memory. Each frame is decoded, scaled and copied to the device
    once, whatever the number of windows that contain it, and the device computes while the next
    batch is prepared.

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
        "processor": [callable, str, PathLike, None],
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
        "device": "no_validation",  # torch.device validates it
        "autocast": [None, StrOptions({"float16", "bfloat16"})],
        "n_jobs": [None, Integral],
        "on_error": [StrOptions({"raise", "skip", "warn"})],
        "short": [StrOptions({"pad", "raise"})],
        "max_pixels": [None, Interval(Integral, 1, None, closed="left")],
        "store": [None, str, PathLike],
        "check_content": ["boolean"],
        "retry_failures": ["boolean"],
        "store_dtype": [StrOptions({"float32", "float64", "float16"})],
        "encoder_id": [None, str],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        encoder: Any,
        *,
        processor: Any = "auto",
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
        check_content: bool = False,
        retry_failures: bool = False,
        store_dtype: str = "float32",
        encoder_id: str | None = None,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.processor = processor
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
        self.check_content = check_content
        self.retry_failures = retry_failures
        self.store_dtype = store_dtype
        self.encoder_id = encoder_id
        self.verbose = verbose

    @survive_fork()
    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Check the parameters; the extractor does not learn from data.

        Parameters
        ----------
        X, y : ignored
            Present for API consistency.

        Returns
        -------
        self : TSEExtractor

        Raises
        ------
        ImportError
            If torch is not installed.
        OSError, ValueError
            If a parameter is invalid, the encoder or its processor cannot be loaded, or the encoder
            or processor is not supported.
        RuntimeError
            If the device cannot be used.
        """
        self._validate_params()
        self._resolve()
        return self

    @survive_fork()
    def transform(self, X: Iterable[Any], *, ids: Sequence[str] | None = None) -> TSEArray:
        """Encode videos, or read their sequences from the store.

        Parameters
        ----------
        X : list or array of videos
            Each item is the path of a file, or an array ``(n_frames, height, width, 3)`` of uint8
            RGB values. `find_videos` lists the files in a folder.

        ids : sequence of str, default=None
            Ids of the videos in the store, as in `extract`. Only with `store`.

        Returns
        -------
        TSEArray
            One sequence ``(n_windows, n_features)`` per video, in the order of `X`, without the
            videos that `on_error` left out. With `store`, a memory map of the store.

        Raises
        ------
        ImportError
            If torch, or PyAV for files, is not installed.
        TypeError
            If `X` is a single path, or an item is neither a path nor an array.
        OSError, RuntimeError
            As in `fit`. Errors of the encoder keep their class, if it is one of Python's or torch's
            usual ones, and tell the shape of its input. RuntimeError also if another thread changes
            the encoder all the time, or the process was forked from one that had used CUDA.
        ValueError
            As in `fit`. Also if an array is not a video, or the encoder returns NaN or a wrong
            shape; the message names the video. Also if `ids` are not valid, or there is no
            `store` that they belong to. Also if the store was created with a different
            encoder or settings, contains another file or array under the same id, or needs
            `encoder_id`; if the encoder cannot be copied or uses another module in training mode;
            and if no video remains.
        FileNotFoundError, VideoDecodeError, ValueError
            If a file is missing, broken, no regular file, refers to other files or claims more than
            it can contain, or `short` or `max_pixels` exclude it, unless `on_error` leaves such
            videos out.
        """
        self._validate_params()
        sources = as_sources(X)
        if self.store is None:
            if ids is not None:
                raise ValueError(
                    "ids name the sequences in a store, but the parameter store is None: set it to "
                    "the folder to write to, or leave ids out (the result is in the order of X)"
                )
            result = self._encode_in_memory(sources, self._resolve())
        else:
            result = self._encode_into_store(with_ids(sources, ids), self._resolve())
        self.n_features_out_ = result.n_features
        return result

    @survive_fork()
    def extract(
        self,
        X: Iterable[Any],
        *,
        ids: Sequence[str] | None = None,
        shard: tuple[int, int] | None = None,
    ) -> TSEStore:
        """Encode the videos that are not in the store yet.

        Parameters
        ----------
        X : list or array of videos
            As in `transform`.

        ids : sequence of str, default=None
            Ids of the videos in the store. None uses paths as they are given, and hashes of the
            content of arrays.

        shard : pair of ints, default=None
            (rank, number of ranks). Only ``X[rank::n_ranks]``, after removing repetitions, is
            encoded, into a shard of the store that no other rank writes to. Each rank must be given
            the same `X`; the store is complete when all ranks have finished. None encodes all of
            `X`.

        Returns
        -------
        TSEStore
            The store, with the sequences of all ranks in the order of `X`, and what it had before.

        Raises
        ------
        ImportError, TypeError, ValueError, FileNotFoundError, VideoDecodeError
            As in `transform`. ValueError also if `store` is None, `ids` has the wrong length or
            repeats an id, or `shard` is not valid.
        """
        self._validate_params()
        if self.store is None:
            raise ValueError("extract needs the parameter store: set it to the folder to write to")
        sources = with_ids(as_sources(X), ids)
        settings = self._resolve()
        if shard is None:
            store = self._fill_store(sources, settings)
        else:
            rank, n_ranks = as_python(tuple(shard))
            if not 0 <= rank < n_ranks:
                raise ValueError(
                    f"shard must be (rank, n_ranks) with 0 <= rank < n_ranks, got {shard}"
                )
            distinct = list({source.id: source for source in reversed(sources)}.values())[::-1]
            store = self._fill_store(distinct[rank::n_ranks], settings, rank, n_ranks)
        self.n_features_out_ = store.n_features or 0
        return store

    @survive_fork()
    def encoder_fingerprint(self) -> str:
        """Return the identifier of the encoder that a store records.

        Returns
        -------
        str
            `encoder_id` if it is set, else derived from all that decides of the module.

        Raises
        ------
        ValueError
            If `encoder_id` is None and the encoder needs it.
        """
        from skdejavid.video.fingerprints import fingerprint
        from skdejavid.video.pretrained import load_encoder

        return fingerprint(load_encoder(self.encoder), self.encoder_id)

    @survive_fork()
    def store_fingerprint(self) -> dict[str, Any]:
        """Return the encoder's identifier and the settings that a store records.

        Returns
        -------
        dict
            What `TSEStore.fingerprint` of a store of this extractor contains.

        Raises
        ------
        ValueError
            If a parameter is invalid, or the encoder is not a module and `encoder_id` is None.
        """
        self._validate_params()
        return self._describe(self._resolve())

    def __sklearn_clone__(self) -> Self:
        """Return a clone that shares the encoder, which may take gigabytes."""
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

    def _resolve(self) -> Settings:
        """Load the encoder and resolve all parameters that are "auto"."""
        from skdejavid.video.settings import resolve_settings  # needs torch

        return resolve_settings(self)

    def _encode_in_memory(self, sources: Sequence[Source], settings: Settings) -> TSEArray:
        """Encode all videos; a file that `X` repeats is encoded repeatedly."""
        sink = InMemory()
        by_position = [source._replace(id=str(source.position)) for source in sources]
        self._extract(by_position, settings, sink)
        self.failures_ = [
            failure._replace(id=sources[int(position)].id)
            for position, failure in sink.failures.items()
        ]
        self._set_kept([source.position for source in by_position if source.id in sink.sequences])
        values, spans = zip(*sink.sequences.values(), strict=True)
        offsets = offsets_of([len(rows) for rows in values])
        return TSEArray.from_packed(np.concatenate(values), offsets, np.concatenate(spans))

    def _encode_into_store(self, sources: Sequence[Source], settings: Settings) -> TSEArray:
        """Encode the videos that are not in the store, and read all from it."""
        store = self._fill_store(sources, settings)
        left_out = {failure.id for failure in self.failures_}
        kept = [source for source in sources if source.id in store and source.id not in left_out]
        self._set_kept([source.position for source in kept])
        return store.sequences([sources[position].id for position in self.kept_])

    def _extract(
        self,
        sources: Sequence[Source],
        settings: Settings,
        sink: Sink,
        recorded: str | None = None,
    ) -> None:
        """Encode all `sources`, in their order, into `sink`.

        `recorded` is the fingerprint that the encoder must have, if a store records one.
        """
        from skdejavid.video.settings import make_encoder, title_of  # needs torch

        title = title_of(self, settings, len(sources))
        if settings.spec.needs_clock:
            check_has_clock(sources)
        encoder = make_encoder(self, settings)
        with (
            encoder.session(),
            Progress(len(sources), is_shown=bool(self.verbose), title=title) as progress,
        ):
            if recorded is not None:
                encoder.check_fingerprint(recorded)
            extraction = Extraction(
                sources,
                settings.spec,
                encoder,
                sink,
                batch_size=as_python(self.batch_size),
                on_error=self.on_error,
                progress=progress,
            )
            extraction.run(count_threads(self.n_jobs))

    def _fill_store(
        self,
        sources: Sequence[Source],
        settings: Settings,
        rank: int = 0,
        n_ranks: int | None = None,
    ) -> TSEStore:
        """Encode the `sources` that are not in the store; return the store.

        A new store has `n_ranks` shards, and an existing one must have as many. With None a new
        store has one shard, and an existing one any number.
        """
        path = fspath(self.store or "")
        store = open_store(path, self.store_dtype, self._describe(settings), n_ranks)
        unique = list({source.id: source for source in sources}.values())
        missing, unreadable = self._missing(unique, store)
        passing: list[Failure] = []
        if missing or not store.is_complete:
            with store.write(rank) as writer:  # waits for other writers of this shard
                missing, unreadable = self._missing(unique, writer)
                stored = writer.partial
                if stored is not None and not (missing and missing[0].id == stored[0]):
                    writer.discard_partial()
                if missing:
                    recorded = store.fingerprint["encoder"] if self.encoder_id is None else None
                    self._extract(missing, settings, writer, recorded)
                passing = writer.passing_failures
            store = TSEStore(store.path)
        if not missing:
            self._tell(f"the store {store.path} has all {len(unique)} video(s)")
        self._warn_of(unreadable)
        self.failures_ = failures_of(store, unique, [*unreadable, *passing])
        return store

    def _tell(self, what: str) -> None:
        if self.verbose:
            print(what, file=sys.stderr)

    def _warn_of(self, unreadable: Sequence[Failure]) -> None:
        if self.on_error == "warn":
            warn_of_left_out([(failure.id, failure.cause) for failure in unreadable])

    def _describe(self, settings: Settings) -> dict[str, Any]:
        from skdejavid.video.settings import describe  # needs torch

        return describe(self, settings)

    def _missing(self, sources: Sequence[Source], store: TSEStore | StoreWriter) -> Missing:
        """Return the sources that must be encoded, and those that cannot be compared."""
        return missing_from(
            store,
            sources,
            check_content=self.check_content,
            retry_failures=self.retry_failures or self.on_error == "raise",
            may_leave_out=self.on_error != "raise",
        )

    def _set_kept(self, kept: Sequence[int]) -> None:
        """Set `kept_`; raise ValueError if no video has a sequence."""
        self.kept_ = np.array(kept, dtype=np.int64)
        if not kept:
            failed = self.failures_[0].cause if self.failures_ else "X is empty"
            raise ValueError(f"no video of X could be encoded; the first error: {failed}")
