"""Progress bars that do not depend on other processes."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from tqdm import tqdm
from tqdm.std import TqdmDefaultWriteLock

__all__ = ["Bar"]

_SECONDS_BETWEEN_LINES = 30.0  # in a file


class Bar(tqdm):
    """A bar of tqdm that excludes other threads only, and starts no thread.

    Bars of tqdm share a semaphore with the processes forked from this one, bars that are not shown
    as well. A process that is killed while it creates or draws one would never release it, and all
    others would wait forever.

    In a file or a pipe, where nothing can be drawn over, it writes a line from time to time.
    """

    monitor_interval = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._writes_lines = _is_file(sys.stderr)
        if self._writes_lines:
            options["mininterval"] = _SECONDS_BETWEEN_LINES
        super().__init__(*arguments, **options)

    def status_printer(self, file: Any) -> Callable[[str], None]:
        """Return the function that shows the text of the bar."""
        if not self._writes_lines:
            return super().status_printer(file)

        def write_line(text: str) -> None:
            if text:
                file.write(f"{text}\n")
                file.flush()

        return write_line

    def moveto(self, n: int) -> None:
        """Move to the line of another bar; in a file there are only lines below each other."""
        if not self._writes_lines:
            super().moveto(n)


def _is_file(stream: Any) -> bool:
    """Return whether a stream is a file or a pipe; those of notebooks draw bars like a terminal."""
    return isinstance(stream, io.TextIOWrapper) and not stream.isatty()


def _renew_lock() -> None:
    """Replace the lock in a forked process: a thread that held it stayed behind in the parent."""
    Bar.set_lock(threading.RLock())


# The lock of threads that other bars use too: all share the lines of the terminal.
Bar.set_lock(TqdmDefaultWriteLock.th_lock)
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
    os.register_at_fork(after_in_child=_renew_lock)
