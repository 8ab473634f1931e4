"""scikit-learn's callbacks: the only module that uses them.

scikit-learn 1.9 added them as an experimental feature. With an older version, or one that has
changed them, estimators have no ``set_callbacks`` and everything else works.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin

    # scikit-learn's decorator with_callbacks enters the same context, but its frame would change
    # the line that warnings point to.
    from sklearn.callback._callback_support import callback_management_context
except ImportError:
    HAS_CALLBACKS = False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """A mixin that adds nothing."""

else:
    HAS_CALLBACKS = True

__all__ = ["HAS_CALLBACKS", "CallbackSupportMixin", "FitTasks", "teardown_after_fit"]


def teardown_after_fit(estimator: Any) -> AbstractContextManager[None]:
    """Return a context that tears down the callbacks set up inside it, also after an error."""
    return callback_management_context(estimator) if HAS_CALLBACKS else nullcontext()


class FitTasks:
    """Observer that reports a fit and its epochs to callbacks as tasks.

    Every task that begins also ends, unless an error is raised; callbacks are torn down then.

    Parameters
    ----------
    estimator : estimator
        Inherits from `CallbackSupportMixin`.
    X, y, sample_weight
        The arguments of its ``fit``.
    attributes : callable
        Returns the attributes that ``fit`` sets for a result of training; only called if a callback
        asks for a fitted estimator.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        attributes: Callable[[Any], dict[str, Any]],
    ) -> None:
        self._estimator, self._attributes = estimator, attributes
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"X": X, "y": y, "metadata": metadata}
        self._fit: Any = None
        self._epoch: Any = None

    def begin(self, n_epochs: int) -> None:
        """Begin the task of the fit."""
        if HAS_CALLBACKS:
            self._fit = self._estimator._init_callback_context(max_subtasks=n_epochs)
            self._fit.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def on_epoch_begin(self) -> None:
        """Begin the task of an epoch."""
        if HAS_CALLBACKS:
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def on_epoch_end(self, record: dict[str, float], training: Any) -> str | None:
        """End the task of the epoch; return "callback" if a callback stops the fit."""
        return "callback" if self._end_epoch(training.result) else None

    def end(self, result: Any) -> None:
        """End the task of the fit, and that of an epoch in which training diverged."""
        if HAS_CALLBACKS:
            self._end_epoch(None)
            self._end(self._fit, lambda: result)

    def _end_epoch(self, result: Callable[[], Any] | None) -> bool:
        epoch, self._epoch = self._epoch, None
        return epoch is not None and self._end(epoch, result)

    def _end(self, task: Any, result: Callable[[], Any] | None) -> bool:
        attributes = None if result is None else lambda: self._attributes(result())
        return task.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=attributes, **self._data
        )
