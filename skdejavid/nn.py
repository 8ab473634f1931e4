"""Time-weighted DTW as a differentiable torch module, for use alone or on top of an encoder."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skdejavid.backends.interfaces import TensorProblem
from skdejavid.backends.registry import backend_of_tensor
from skdejavid.compat.optional import import_optional
from skdejavid.compat.parameters import as_bool
from skdejavid.compat.tensors import as_tensor, is_batch_of_old_vmap
from skdejavid.compat.threads import count_threads
from skdejavid.sequences import TSEArray
from skdejavid.sequences.containers import as_real, read
from skdejavid.sequences.layout import starts_of
from skdejavid.sequences.transforms import Lag, check_lags, lagged_frames

if TYPE_CHECKING:
    import torch

    from skdejavid.classifier import DejaVidClassifier
else:
    torch = import_optional("torch", "nn", "skdejavid.nn")

__all__ = ["TimeWeightedDTW"]

_NUMBERS_PER_PART = 2**22  # bounds the memory of second derivatives


class TimeWeightedDTW(torch.nn.Module):
    """Time-weighted DTW distances to learned centroids, differentiable in all inputs.

    Every call finds the cheapest paths. The gradient, for which these paths are constants, reaches
    the centroids, the log-weights and the sequences, so an encoder before the module can be trained
    with it. Derivatives of higher order, as a gradient penalty needs them, are computed along the
    same paths.

    Parameters
    ----------
    centroids : tensor or array of shape (n_centroids, n_timesteps, n_features * (1 + n_lags))
        Initial centroids; tensors are float32 or float64, arrays are converted as by
        :class:`skdejavid.TSEArray`.
    log_weights : tensor or array of the same shape, optional
        Initial logarithms of the weights. None means 0, all weights 1.
    lags : sequence of int or float, default=()
        Lags of the differences over time that are appended to the features of each sequence before
        it is compared, as in :class:`skdejavid.TimeDifferences`.
    diagonal : bool, default=True
        Whether a path may advance in both sequences at once.
    n_jobs : int, optional
        Number of threads, see :func:`skdejavid.dtw_distances`.

    Raises
    ------
    TypeError, ValueError
        If shapes, floating types, `lags` or `diagonal` are not as described.

    Notes
    -----
    ``torch.compile`` works: it leaves this module as it is and compiles what is around it.
    ``torch.func.grad``, ``jacrev`` and ``vmap`` work, as do autocast (distances are computed in the
    type of the centroids), ``copy.deepcopy``, ``torch.save`` and ``DistributedDataParallel``.

    Not possible, and refused with an error: ``torch.jit.trace`` and ``script``, ``torch.export``
    and ONNX, because paths depend on the values; forward-mode derivatives (``jvp``, ``jacfwd``,
    ``hessian``), instead of which ``jacrev`` can be used; tensors without values (the device
    "meta"); parameters in half precision; and lists of sequences in ``DataParallel``, which splits
    every sequence between the devices.

    Examples
    --------
    >>> import torch
    >>> from skdejavid.nn import TimeWeightedDTW
    >>> matcher = TimeWeightedDTW(torch.zeros(2, 3, 4))
    >>> matcher([torch.ones(5, 4), torch.ones(2, 4)])
    tensor([[20., 20.],
            [12., 12.]], grad_fn=<...>)
    """

    def __init__(
        self,
        centroids: torch.Tensor | ArrayLike,
        log_weights: torch.Tensor | ArrayLike | None = None,
        *,
        lags: Sequence[Lag] = (),
        diagonal: bool = True,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__()
        centers = _read_parameter(centroids, "centroids")
        logarithms = torch.zeros_like(centers)
        if log_weights is not None:
            logarithms = _read_parameter(log_weights, "log_weights")
        if centers.ndim != 3 or logarithms.shape != centers.shape:
            raise ValueError(
                "centroids and log_weights must be 3-D (n_centroids, n_timesteps, n_features) and "
                f"of one shape, got {tuple(centers.shape)} and {tuple(logarithms.shape)}"
            )
        _check_floating(centers, logarithms)
        self.lags = check_lags(lags, "lags")
        if centers.shape[2] % (1 + len(self.lags)):
            raise ValueError(
                f"centroids have {centers.shape[2]} features, which must be a multiple of "
                f"{1 + len(self.lags)}: the features and their differences for each of "
                f"{len(self.lags)} lags"
            )
        self.centroids = torch.nn.Parameter(centers)
        self.log_weights = torch.nn.Parameter(logarithms)
        self.diagonal = as_bool(diagonal, "diagonal")
        self.n_jobs = n_jobs

    @classmethod
    def from_estimator(cls, estimator: DejaVidClassifier) -> Self:
        """Create a module with the parameters of a fitted classifier.

        For the same sequences, it returns the distances of the classifier's ``transform`` with
        ``transform_timesteps=False``.

        Parameters
        ----------
        estimator : DejaVidClassifier
            A fitted classifier; its arrays are copied.

        Returns
        -------
        TimeWeightedDTW
            On the CPU, in the floating type of the classifier.

        Raises
        ------
        TypeError
            If `estimator` is not a DejaVidClassifier, such as a pipeline that ends with one.
        NotFittedError
            If `estimator` is not fitted.

        Examples
        --------
        >>> import numpy as np, torch
        >>> from skdejavid import DejaVidClassifier
        >>> from skdejavid.datasets import make_order_sequences
        >>> from skdejavid.nn import TimeWeightedDTW
        >>> X, y = make_order_sequences(20, random_state=0)
        >>> clf = DejaVidClassifier(n_epochs=2, random_state=0).fit(X, y)
        >>> matcher = TimeWeightedDTW.from_estimator(clf)
        >>> np.allclose(matcher(X).detach(), clf.transform(X))
        True
        """
        _check_classifier(estimator)
        return cls(
            estimator.centroids_,
            estimator.log_weights_,
            lags=estimator.lags_,
            diagonal=estimator.diagonal,
            n_jobs=estimator.n_jobs,
        )

    def to_estimator(self, estimator: DejaVidClassifier) -> DejaVidClassifier:
        """Create a copy of a fitted classifier with the parameters of this module.

        Its ``transform`` (with ``transform_timesteps=False``) returns the distances of this module.
        Everything else is that of `estimator`: the classes, and the scale by which
        ``predict_proba`` divides distances.

        Parameters
        ----------
        estimator : DejaVidClassifier
            A fitted classifier with centroids of the same shape and the same lags, such as the one
            that was given to :meth:`from_estimator`. It is not changed.

        Returns
        -------
        DejaVidClassifier

        Raises
        ------
        TypeError
            If `estimator` is not a DejaVidClassifier, such as a pipeline that ends with one.
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If its centroids have another shape, or its lags differ, or this module is not in
            float32 or float64.
        """
        _check_classifier(estimator)
        _check_floating(self.centroids, self.log_weights)
        if estimator.centroids_.shape != tuple(self.centroids.shape):
            raise ValueError(
                "estimator must have centroids of the same shape as this module, got "
                f"{estimator.centroids_.shape}, expected {tuple(self.centroids.shape)}"
            )
        if tuple(estimator.lags_) != self.lags:
            raise ValueError(
                f"estimator must have the same lags as this module, got {tuple(estimator.lags_)}, "
                f"expected {self.lags}"
            )
        fitted = copy.deepcopy(estimator).set_params(diagonal=self.diagonal)
        fitted.centroids_ = self.centroids.detach().cpu().numpy().copy()
        fitted.log_weights_ = self.log_weights.detach().cpu().numpy().copy()
        return fitted

    def forward(self, sequences: Any) -> torch.Tensor:
        """Compute the distance of each sequence to each centroid.

        Parameters
        ----------
        sequences : sequences
            A list of tensors or arrays (n_frames, n_features), a 3-D tensor, a nested tensor, a
            ``PackedSequence``, or anything that :class:`skdejavid.TSEArray` reads except a table.
            Tensors are converted to the device and the floating type of the centroids, and
            gradients reach them. Distances of a tensor that contains NaN or
            infinity are NaN or infinite.

        Returns
        -------
        tensor of shape (n_sequences, n_centroids)
            On the device and in the floating type of the centroids.

        Raises
        ------
        TypeError, ValueError
            If there are no sequences, or a sequence is not made of real numbers, has no frames or
            another number of features; the message names it.
        RuntimeError
            If the module is traced, exported, or called in a way that has no values, see Notes of
            the class.
        """
        # A trace of the compiler would depend on the lengths of all sequences and be made again for
        # every batch. As a decorator, `disable` would load the compiler with this module.
        if torch.compiler.is_compiling():
            return torch.compiler.disable(self._distances)(sequences)
        return self._distances(sequences)

    def _distances(self, sequences: Any) -> torch.Tensor:
        _refuse_recording(sequences, self.centroids)
        _check_floating(self.centroids, self.log_weights)
        values, lengths = self._pack(sequences)
        weights = self.log_weights.exp().to(self.centroids)
        distances, _ = _Distances.apply(
            self._with_differences(values, lengths),
            self.centroids,
            weights,
            lengths,
            self.diagonal,
            count_threads(self.n_jobs),
        )
        return distances.to(self.centroids.dtype)

    def __prepare_scriptable__(self) -> TimeWeightedDTW:
        """Refuse ``torch.jit.script``, which calls this method of all modules."""
        raise RuntimeError(
            "TimeWeightedDTW cannot be scripted, because it calls native code: script the modules "
            "around it, and call it in Python"
        )

    def _pack(self, sequences: Any) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """Return all frames (n_frames, n_features) one after the other, and the lengths."""
        if getattr(self, "_is_replica", False) and not isinstance(sequences, torch.Tensor):
            raise RuntimeError(
                "sequences is not a tensor, but DataParallel splits every tensor of a list between "
                "the devices, and so each sequence: use DistributedDataParallel"
            )
        items = _read_sequences(sequences)
        if not items:
            raise ValueError("sequences is empty, expected at least one")
        _check_has_values(*items, self.centroids, self.log_weights)
        n_features = self.centroids.shape[2] // (1 + len(self.lags))
        for i, item in enumerate(items):
            if item.ndim != 2 or len(item) == 0 or item.shape[1] != n_features:
                raise ValueError(
                    f"sequences[{i}] must be (n_frames >= 1, {n_features}), got "
                    f"{tuple(item.shape)}{self._hint(item)}"
                )
            if item.is_complex():
                raise ValueError(
                    f"sequences[{i}] is complex, expected real numbers: pass "
                    "torch.view_as_real(x).flatten(1), or x.abs()"
                )
        lengths = np.array([len(item) for item in items], dtype=np.int64)
        return torch.cat([item.to(self.centroids) for item in items]), lengths

    def _hint(self, item: torch.Tensor) -> str:
        """Return how a sequence of another shape can be passed, after a colon."""
        n_features, n_parts = self.centroids.shape[2], 1 + len(self.lags)
        if item.ndim == 1:
            return ": pass a list of sequences, or x[:, None] for a series of one feature"
        if item.ndim == 3:
            return ": pass padded sequences one by one, cut to their lengths"
        if item.ndim == 2 and n_parts > 1 and item.shape[1] == n_features:
            return f": the module itself appends the differences for its lags {self.lags}"
        return ""

    def _with_differences(self, values: torch.Tensor, lengths: NDArray[np.int64]) -> torch.Tensor:
        """Append differences to features, see `skdejavid.sequences.transforms`."""
        first = np.repeat(starts_of(lengths), lengths)
        parts = [values]
        for lag in self.lags:
            later, earlier = (
                torch.from_numpy(first + frames).to(values.device)
                for frames in lagged_frames(lengths, lag)
            )
            parts.append(values[later] - values[earlier])
        return torch.cat(parts, dim=1) if self.lags else values


class _Distances(torch.autograd.Function):
    """Distances along the cheapest paths, which are constants for the gradients; and these paths.

    The gradients are dD/dC and dD/dU of the paper's supplement, and dD/ds.
    """

    @staticmethod
    def forward(
        values: torch.Tensor,
        centroids: torch.Tensor,
        weights: torch.Tensor,
        lengths: NDArray[np.int64],
        diagonal: bool,
        n_threads: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return _problem(values, centroids, weights, lengths, n_threads).paths(diagonal)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        values, centroids, weights, ctx.lengths, _, ctx.n_threads = inputs
        _, runs = output
        ctx.set_materialize_grads(False)  # there is none for the runs
        ctx.mark_non_differentiable(runs)
        ctx.save_for_backward(values, centroids, weights, runs)

    @staticmethod
    def backward(
        ctx: Any, grad_distances: torch.Tensor | None, _: None
    ) -> tuple[torch.Tensor | None, ...]:
        if grad_distances is None:
            return (None,) * 6
        # The problem is created again from `saved_tensors`, which raise an error if an input was
        # changed in place since `forward`; the first problem would compute with the new values.
        *parameters, runs = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        gradients = _Gradients.apply(
            *parameters, grad_distances, runs, ctx.lengths, ctx.n_threads, needed
        )
        return (*gradients, None, None, None)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> None:
        _refuse_forward_mode()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return _apply_one_by_one(_Distances, info.batch_size, in_dims, inputs)


class _Gradients(torch.autograd.Function):
    """Gradients of distances along given paths, times those of a loss by the distances.

    The first derivatives come from the native core. Those of them are written in torch, and are
    thus differentiable again.
    """

    @staticmethod
    def forward(
        values: torch.Tensor,
        centroids: torch.Tensor,
        weights: torch.Tensor,
        grad_distances: torch.Tensor,
        runs: torch.Tensor,
        lengths: NDArray[np.int64],
        n_threads: int,
        needed: tuple[bool, bool, bool],
    ) -> tuple[torch.Tensor | None, ...]:
        if is_batch_of_old_vmap(grad_distances):
            raise NotImplementedError(
                "TimeWeightedDTW has no gradients with is_grads_batched=True or vectorize=True: "
                "use torch.func.jacrev, or compute one gradient after the other"
            )
        problem = _problem(values, centroids, weights, lengths, n_threads)
        grad_distances, runs = grad_distances.contiguous(), runs.contiguous()
        by_values = by_centroids = by_weights = None
        if needed[0]:
            by_values = problem.sequence_gradients(runs, grad_distances)
        if needed[1] or needed[2]:
            by_centroids, by_weights = problem.parameter_gradients(runs, grad_distances)
        return by_values, by_centroids, by_weights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        *tensors, ctx.lengths, _, _ = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *directions: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        values, centroids, weights, grad_distances, runs = ctx.saved_tensors
        parameters = values, centroids, weights
        directions = tuple(
            torch.zeros_like(tensor) if direction is None else direction
            for tensor, direction in zip(parameters, directions, strict=True)
        )
        gradients = _second_derivatives(parameters, grad_distances, directions, runs, ctx.lengths)
        return (*gradients, None, None, None, None)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> None:
        _refuse_forward_mode()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return _apply_one_by_one(_Gradients, info.batch_size, in_dims, inputs)


def _second_derivatives(
    parameters: tuple[torch.Tensor, ...],
    grad_distances: torch.Tensor,
    directions: tuple[torch.Tensor | None, ...],
    runs: torch.Tensor,
    lengths: NDArray[np.int64],
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of the sum of the products of first derivatives and `directions`.

    A cell of a path adds ``sum_f weight * |centroid - value|`` to a distance, which is linear in
    its weights, and in the other two as long as no difference changes its sign.

    Returns
    -------
    tuple of 4 tensors
        By values, centroids, weights and `grad_distances`.
    """
    values, centroids, weights = parameters
    n_features = centroids.shape[2]
    rows = [values, *(tensor.reshape(-1, n_features) for tensor in (centroids, weights))]
    by_rows = [torch.zeros_like(tensor) for tensor in rows]
    along = [d.reshape(-1, n_features) for d in directions if d is not None]
    by_distance = torch.zeros_like(grad_distances).reshape(-1)
    for frame, timestep, pair in _cells(runs, lengths, n_features):
        value, center, weight = rows[0][frame], rows[1][timestep], rows[2][timestep]
        value_to, center_to, weight_to = along[0][frame], along[1][timestep], along[2][timestep]
        factor = grad_distances.reshape(-1)[pair, None].to(weight.dtype)
        difference = center - value
        deviation, slope = difference.abs(), difference.sign()
        change = slope * (center_to - value_to)  # of the deviation
        by_center = factor * weight_to * slope
        by_rows[0] = by_rows[0].index_add(0, frame, -by_center)
        by_rows[1] = by_rows[1].index_add(0, timestep, by_center)
        by_rows[2] = by_rows[2].index_add(0, timestep, factor * change)
        changes = (weight_to * deviation + weight * change).sum(dim=1)
        by_distance = by_distance.index_add(0, pair, changes.to(by_distance.dtype))
    by_values, by_centroids, by_weights = by_rows
    return (
        by_values,
        by_centroids.reshape(centroids.shape),
        by_weights.reshape(centroids.shape),
        by_distance.reshape(grad_distances.shape),
    )


def _cells(
    runs: torch.Tensor, lengths: NDArray[np.int64], n_features: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield the cells of all paths in parts of some sequences.

    They are three tensors of indices: of the frame in all sequences, of the time step in all
    centroids, and of the distance.
    """
    n_centroids, n_timesteps = runs.shape[1:3]
    sizes = (lengths + n_timesteps) * (n_centroids * n_features)
    part_of_sequence = (np.cumsum(sizes) - sizes) // _NUMBERS_PER_PART
    starts = torch.from_numpy(starts_of(lengths)).to(runs.device)
    for part in np.unique(part_of_sequence):
        begin, end = np.searchsorted(part_of_sequence, [part, part + 1])
        first, last = runs[begin:end].long().reshape(-1, 2).unbind(dim=1)
        n_cells = last - first + 1
        run = torch.repeat_interleave(n_cells)  # the run of each cell, counted in this part
        n_before = n_cells.cumsum(0) - n_cells
        position = torch.arange(len(run), device=runs.device) - n_before[run]
        pair = run // n_timesteps + int(begin) * n_centroids
        frame = starts[pair // n_centroids] + first[run] + position
        yield frame, run % (n_centroids * n_timesteps), pair


def _apply_one_by_one(
    function: type[torch.autograd.Function],
    batch_size: int,
    in_dims: tuple[Any, ...],
    inputs: tuple[Any, ...],
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Apply a function to each item of a batch of ``torch.func.vmap``."""

    def item(value: Any, dim: Any, i: int) -> Any:
        has_batch = isinstance(value, torch.Tensor) and dim is not None
        return value.select(dim, i) if has_batch else value

    results = [
        function.apply(*(item(*pair, i) for pair in zip(inputs, in_dims, strict=True)))
        for i in range(batch_size)
    ]
    outputs = tuple(
        None if parts[0] is None else torch.stack(parts) for parts in zip(*results, strict=True)
    )
    return outputs, tuple(None if output is None else 0 for output in outputs)


def _refuse_forward_mode() -> None:
    raise NotImplementedError(
        "TimeWeightedDTW has no forward-mode derivatives (jvp, jacfwd, hessian): use backward, "
        "torch.func.grad or torch.func.jacrev"
    )


def _problem(
    values: torch.Tensor,
    centroids: torch.Tensor,
    weights: torch.Tensor,
    lengths: NDArray[np.int64],
    n_threads: int,
) -> TensorProblem:
    backend = backend_of_tensor(centroids)
    return backend.tensor_problem(values, lengths, centroids, weights, n_threads=n_threads)


def _read_parameter(values: Any, name: str) -> torch.Tensor:
    """Return a copy of initial parameters as a tensor without a gradient."""
    if not isinstance(values, torch.Tensor):
        values = as_tensor(as_real(np.asarray(values), name))
    tensor: torch.Tensor = values.detach().clone()
    return tensor


def _read_sequences(sequences: Any) -> list[torch.Tensor]:
    """Return the sequences as tensors; those that are tensors keep their gradients."""
    if isinstance(sequences, torch.nn.utils.rnn.PackedSequence):
        return torch.nn.utils.rnn.unpack_sequence(sequences)
    if isinstance(sequences, torch.Tensor):
        _check_dense(sequences, "sequences")
        if sequences.ndim != 3 and not sequences.is_nested:
            raise ValueError(
                "sequences must be a list of tensors (n_frames, n_features) or a 3-D tensor, got "
                f"{sequences.ndim}-D of shape {tuple(sequences.shape)}: pass [x] for one sequence x"
            )
        return list(sequences.unbind())
    if isinstance(sequences, Iterator):
        sequences = list(sequences)
    if isinstance(sequences, (list, tuple)) and not sequences:
        return []
    if _contains_tensors(sequences):
        return [_read_item(item, f"sequences[{i}]") for i, item in enumerate(sequences)]
    return _read_arrays(sequences, "sequences")


def _contains_tensors(sequences: Any) -> bool:
    """Return whether the items of a collection have gradients that reading would lose."""
    if isinstance(sequences, (TSEArray, str, Mapping, Set)) or not hasattr(sequences, "__iter__"):
        return False
    is_plain = isinstance(sequences, (list, tuple, np.ndarray))
    items = sequences if is_plain else [next(iter(sequences), None)]
    return any(isinstance(item, torch.Tensor) for item in items)


def _read_item(item: Any, name: str) -> torch.Tensor:
    if not isinstance(item, torch.Tensor):
        return _read_arrays([item], name)[0]
    _check_dense(item, name)
    return item


def _read_arrays(arrays: Any, name: str) -> list[torch.Tensor]:
    """Read sequences that are no tensors as everywhere in the package; errors say `name`."""
    if isinstance(arrays, TSEArray):
        return [as_tensor(array) for array in arrays]
    try:
        packed = read(arrays)
        if packed.is_table:
            raise ValueError(
                "X is a table of numbers, expected sequences (n_frames, n_features): pass [x] for "
                "one sequence x"
            )
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        own_name = r"\bX\[0\]|\bX\b" if name.endswith("]") else r"\bX\b"
        raise kind(re.sub(own_name, name, str(error))) from error
    return [as_tensor(array) for array in TSEArray.from_packed(packed.values, packed.offsets)]


def _check_dense(tensor: torch.Tensor, name: str) -> None:
    if tensor.layout not in (torch.strided, torch.jagged):
        raise TypeError(
            f"{name} is a tensor of layout {tensor.layout}, expected a dense one: use x.to_dense()"
        )


def _check_classifier(estimator: Any) -> None:
    """Check that an estimator is a fitted classifier, and name the one inside of another."""
    if not hasattr(estimator, "diagonal"):
        raise TypeError(
            f"estimator must be a DejaVidClassifier, got a {type(estimator).__name__}: pass the "
            "classifier inside it, such as search.best_estimator_ or pipeline[-1], and sequences "
            "that the steps before it have transformed"
        )
    check_is_fitted(estimator, "centroids_")


def _refuse_recording(*inputs: Any) -> None:
    """Refuse calls that record what is computed: paths depend on values and cannot be recorded."""
    fx, proxies = (
        sys.modules.get(f"torch.fx{name}") for name in ("", ".experimental.proxy_tensor")
    )
    if (
        torch.jit.is_tracing()  # type: ignore[attr-defined]
        or torch.compiler.is_compiling()
        or (fx is not None and any(isinstance(value, fx.Proxy) for value in inputs))
        or (proxies is not None and proxies.get_proxy_mode() is not None)
    ):
        raise RuntimeError(
            "TimeWeightedDTW cannot be traced or exported: its paths depend on the values, and a "
            "trace would return the distances of its example for every input. Trace the modules "
            "around it, and call it in Python; torch.compile does so by itself"
        )


def _check_has_values(*tensors: torch.Tensor) -> None:
    if any(tensor.is_meta or type(tensor).__name__ == "FakeTensor" for tensor in tensors):
        raise RuntimeError(
            "TimeWeightedDTW needs values, but sequences or parameters are meta or fake tensors: "
            "move the module with to_empty(device=...), and load its state before calling it"
        )


def _check_floating(centroids: torch.Tensor, log_weights: torch.Tensor) -> None:
    if not {centroids.dtype, log_weights.dtype} <= {torch.float32, torch.float64}:
        raise ValueError(
            "centroids and log_weights must be float32 or float64, "
            f"got {centroids.dtype} and {log_weights.dtype}: keep this module in float32, "
            "matcher.float(), also in a model of half precision; its inputs may be of any type"
        )
