"""Progress bars that do not depend on other processes."""

from __future__ import annotations

import os
import threading

from tqdm import tqdm
from tqdm.std import TqdmDefaultWriteLock

__all__ = ["Bar"]


class Bar(tqdm):
    """A bar of tqdm that excludes other threads only, and starts no thread.

    Bars of tqdm share a semaphore with the processes forked from this one, bars that are not shown
    as well. A process that is killed while it creates or draws one would never release it, and all
    others would wait forever.
    """

    monitor_interval = 0


def _renew_lock() -> None:
    """Replace the lock in a forked process: a thread that held it stayed behind in the parent."""
    Bar.set_lock(threading.RLock())


# The lock of threads that other bars use too: all share the lines of the terminal.
Bar.set_lock(TqdmDefaultWriteLock.th_lock)
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
    os.register_at_fork(after_in_child=_renew_lock)
