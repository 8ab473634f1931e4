"""scikit-learn's callbacks: the only module that knows them.

They came with scikit-learn 1.9 and may still change without notice. With an older version, or one
that has changed them, estimators have no ``set_callbacks`` and everything else works.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin

    # with_callbacks is this as a decorator, whose frame would move the line that warnings point to.
    from sklearn.callback._callback_support import callback_management_context
except ImportError:
    HAS_CALLBACKS = False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing is supported."""

else:
    HAS_CALLBACKS = True

__all__ = ["HAS_CALLBACKS", "CallbackSupportMixin", "FitTasks", "teardown_after_fit"]

Attributes = Callable[[], dict[str, Any]]


def teardown_after_fit(estimator: Any) -> AbstractContextManager[None]:
    """Callbacks that were set up inside of this context end with it, whatever happens."""
    return callback_management_context(estimator) if HAS_CALLBACKS else nullcontext()


class FitTasks:
    """One fit and its epochs, as callbacks are told of them.

    Every task that begins also ends, unless an error does; callbacks are torn down then as well.

    Parameters
    ----------
    estimator : estimator
        Inherits from `CallbackSupportMixin`.
    X, y, sample_weight
        What its ``fit`` was called with.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self._estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"X": X, "y": y, "metadata": metadata}
        self._fit: Any = None
        self._epoch: Any = None

    def begin(self, n_epochs: int) -> None:
        """The fit begins."""
        if HAS_CALLBACKS:
            self._fit = self._estimator._init_callback_context(max_subtasks=n_epochs)
            self._fit.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def begin_epoch(self) -> None:
        """An epoch begins."""
        if HAS_CALLBACKS:
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def end_epoch(self, attributes: Attributes | None = None) -> bool:
        """The epoch has ended.

        Parameters
        ----------
        attributes : callable, optional
            Makes the attributes that a fit ending here would set; only called if a callback asks.

        Returns
        -------
        bool
            Whether a callback wants the fit to end here.
        """
        epoch, self._epoch = self._epoch, None
        return epoch is not None and self._end(epoch, attributes)

    def end(self, attributes: Attributes) -> None:
        """The fit has ended, possibly in the middle of an epoch."""
        if HAS_CALLBACKS:
            self.end_epoch()
            self._end(self._fit, attributes)

    def _end(self, task: Any, attributes: Attributes | None) -> bool:
        return task.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=attributes, **self._data
        )
