"""What was found at a path: what was taken, as what, and what was left and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """One line on what a reader made of a path, for people: on the terminal, and kept with a model.

    Args:
        taken: what became samples, as what: "5000 pictures of 28 x 28, grey, 8 bits; 10 classes by folder".
        left: each kind of thing that did not, and why: "3 files (.txt): no pictures".
        otherwise: what it may have been meant as, each with the option that says so:
            "28 channels of a signal: --reading.axes nlc".
    """

    taken: str
    left: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = (self.taken, *(f"left: {what}" for what in self.left), *(f"or else {what}" for what in self.otherwise))
        return "; ".join(parts)


def counted(count: int, one: str, many: str = "") -> str:
    """A number of things in words: "1 file", "3 files"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def classes_in_words(names: Sequence[str], by: str = "", count: int | None = None) -> str:
    """Classes in words: "3 classes by folder: cat, dog, eel"."""
    count = len(names) if count is None else count
    how = f" by {by}" if by else ""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{counted(count, 'class', 'classes')}{how}" + (f": {', '.join(names[:8])}{more}" if names else "")
