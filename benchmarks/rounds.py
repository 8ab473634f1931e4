"""Timing of calls in turns, relative to the peak rate, on a machine with other load."""

import statistics
import time

from peak import measure_peak

QUIET = 0.95  # of the highest peak: below, another process used the core as well
FEWEST = 5


def seconds_of(call):
    """Return the wall time of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def in_turns(calls, n_rounds):
    """Return, for each call, the seconds of its quiet rounds times the peak rate of one thread.

    This is the number of weighted differences that the machine could have computed in that time. A
    round is quiet if the peak is high before and after it. If fewer than five are, all count.
    """
    taken = {name: [] for name in calls}
    for _ in range(n_rounds):
        for name, call in calls.items():
            before, seconds, after = measure_peak(), seconds_of(call), measure_peak()
            taken[name].append((min(before, after), seconds * max(before, after)))
    highest = max(peak for rounds in taken.values() for peak, _ in rounds)
    return {name: of_quiet_rounds(rounds, highest) for name, rounds in taken.items()}


def of_quiet_rounds(rounds, highest):
    """Return the values of quiet rounds (peak, value), or of all if fewer than five are quiet."""
    quiet = [value for peak, value in rounds if peak >= QUIET * highest]
    return quiet if len(quiet) >= FEWEST else [value for _, value in rounds]


def medians(equivalents):
    """Return the median of each call."""
    return {name: statistics.median(rounds) for name, rounds in equivalents.items()}
