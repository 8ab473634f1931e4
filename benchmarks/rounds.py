"""Calls in turns, each beside the machine's own limit, on a machine that others use as well."""

import statistics
import time

from peak import measure_peak

QUIET = 0.95  # of the highest peak: below, somebody else had the core as well
FEWEST = 5


def seconds_of(call):
    """How long one call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def in_turns(calls, n_rounds):
    """For each named call the seconds of its quiet rounds times the peak of one thread.

    That is how many weighted differences the machine could have computed meanwhile. A round is
    quiet if the peak is high before and after it; if fewer than five are, all of them count.
    """
    taken = {name: [] for name in calls}
    for _ in range(n_rounds):
        for name, call in calls.items():
            before, seconds, after = measure_peak(), seconds_of(call), measure_peak()
            taken[name].append((min(before, after), seconds * max(before, after)))
    highest = max(peak for rounds in taken.values() for peak, _ in rounds)
    return {name: of_quiet_rounds(rounds, highest) for name, rounds in taken.items()}


def of_quiet_rounds(rounds, highest):
    """The values of the rounds (peak, value) that were quiet, or of all if fewer than five were."""
    quiet = [value for peak, value in rounds if peak >= QUIET * highest]
    return quiet if len(quiet) >= FEWEST else [value for _, value in rounds]


def medians(equivalents):
    """The median of each."""
    return {name: statistics.median(rounds) for name, rounds in equivalents.items()}
