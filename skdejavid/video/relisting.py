"""What has changed in a list of videos since a store was filled from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from skdejavid.store import TSEStore
from skdejavid.video.listing import Listing

__all__ = ["update_labels"]

_MOST_NAMES = 5  # in a message


def update_labels(store: TSEStore, videos: Listing, *, add: bool = False) -> list[str]:
    """Give the sequences of a store the labels of a list, and return what has changed, in words.

    Sequences of videos that are not in the list lose their labels. They stay in the store: the
    video may be listed again.

    Parameters
    ----------
    store : TSEStore
        The store, after the videos were encoded.
    videos : Listing
        All videos that are in use. Without labels, sequences keep those that they have.
    add : bool, default=False
        Whether the videos of earlier lists are in use too.

    Returns
    -------
    list of str
        Videos that are no longer listed, that have another label than before, and those that have
        the same content.
    """
    before, listed = store.labels_by_id, set(videos.ids)
    stored = [id for id in store.ids if id in listed]
    gone = [] if add else [id for id in store.ids if id not in listed]
    by_content = _by_content(store, stored)
    labels = before if videos.labels is None else dict(zip(videos.ids, videos.labels, strict=True))
    notes = [
        *_notes_on_gone(store, gone, by_content),
        *_notes_on_labels(before, labels, stored),
        *_notes_on_copies(labels, by_content),
    ]
    used = {id: labels[id] for id in (stored if add else videos.ids) if id in labels}
    if gone or videos.labels is not None:
        store.set_labels(used, replace=not add)
    return notes


def _notes_on_labels(
    before: Mapping[str, object], labels: Mapping[str, object], stored: list[str]
) -> Iterator[str]:
    """Yield what is to be said of sequences that have another label than before."""
    changed = [
        f"{id!r} from {before[id]!r} to {labels[id]!r}"
        for id in stored
        if id in before and before[id] != labels[id]
    ]
    if changed:
        yield "label changed: " + _shown(changed)


def _notes_on_copies(
    labels: Mapping[str, object], by_content: Mapping[str, list[str]]
) -> Iterator[str]:
    """Yield what is to be said of sequences of the same content."""
    copies = [
        " = ".join(f"{id!r} ({labels[id]})" if id in labels else repr(id) for id in ids)
        for ids in by_content.values()
        if len(ids) > 1
    ]
    if copies:
        yield "the same content: " + _shown(copies)


def _notes_on_gone(
    store: TSEStore, gone: list[str], by_content: dict[str, list[str]]
) -> Iterator[str]:
    """Yield what is to be said of sequences whose videos are not listed."""
    moved = {id: by_content.get(store.file(id).content_hash or "", []) for id in gone}
    if renamed := [f"{id!r}, now {ids[0]!r}" for id, ids in moved.items() if ids]:
        yield "listed by another name, and fit uses only that: " + _shown(renamed)
    if removed := [f"{id!r}" for id, ids in moved.items() if not ids]:
        yield "no longer listed, and fit leaves them out: " + _shown(removed)


def _by_content(store: TSEStore, ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the ids of each content, if it is known."""
    groups: dict[str, list[str]] = {}
    for id in ids:
        content = store.file(id).content_hash
        if content is not None:
            groups.setdefault(content, []).append(id)
    return groups


def _shown(items: Iterable[str]) -> str:
    """Return the number of items and the first of them."""
    found = list(items)
    more = f", and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    return f"{len(found)} video(s): {', '.join(found[:_MOST_NAMES])}{more}"
