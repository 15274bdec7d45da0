"""Lists of classes that lie beside files, in the forms of NVIDIA's dataset_tool, the Hub, and WebDataset."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scorefield.data.found import counted
from scorefield.data.members import Listing, members, reason

COLUMNS = ("label", "class", "cls")  # that say the class, unless one is named
LISTS = ("dataset.json", "metadata.csv", "metadata.jsonl")


@dataclass(frozen=True)
class Told:
    """What lists say.

    Args:
        label: class of each file; empty if they say none.
        by: which they are, in words.
        left: what in them was left, and why.
        used: their names.
    """

    label: Mapping[str, str] = field(default_factory=dict[str, str])
    by: str = ""
    left: tuple[str, ...] = ()
    used: frozenset[str] = frozenset()


def by_list(listing: Listing, files: Sequence[str], option: str, column: str | None, most: float | None) -> Told | None:
    """By `dataset.json`, `metadata.csv` and `metadata.jsonl`, whose names of files count from their own folder."""
    label: dict[str, str] = {}
    lists = [name for name in listing.ending(LISTS) if name.rpartition("/")[2].lower() in LISTS]
    left: list[str] = []
    for name, text in _texts(listing, lists, most):
        folder, _, own = name.rpartition("/")
        try:
            rows, why = _of_tool(text) if own.lower() == "dataset.json" else _of_hub(text, own, option, column)
        except (ValueError, KeyError, TypeError, csv.Error, AttributeError) as error:
            raise ValueError(
                f"{listing.path}: {name}: cannot be read ({reason(error)}): repair or remove it"
            ) from error
        left += [f"{name}: {why}"] if why else []
        label |= {(f"{folder}/{file}" if folder else file): word for file, word in rows.items()}
    if not label:
        return Told(left=tuple(left), used=frozenset(lists)) if left else None
    known = {name: label[name] for name in files if name in label}
    _check_all(known, files, listing.path, option, f"in {', '.join(lists[:3])}")
    return Told(known, by=lists[0].rpartition("/")[2], left=tuple(left), used=frozenset(lists))


def _of_tool(text: str) -> tuple[dict[str, str], str]:
    """{"labels": [["00000/img00000000.png", 6], ...]}, or null for none."""
    labels = json.loads(text)["labels"]
    if labels and isinstance(labels[0][1], list):
        return {}, "labels that are lists of numbers"
    return {str(name): _word(value) for name, value in labels or ()}, ""


def _of_hub(text: str, name: str, option: str, column: str | None) -> tuple[dict[str, str], str]:
    if name.lower().endswith(".csv"):
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text)))
    else:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    columns = list(rows[0]) if rows else []
    which = _column(columns, column)
    if which is None:
        others = [word for word in columns if word != "file_name"]
        named = f" (one of classes: {option}.column)" if option.endswith("images") else ""
        return {}, f"columns {', '.join(others)}{named}" if others else ""
    return {str(row["file_name"]): _word(row[which]) for row in rows}, ""


def by_neighbour(
    listing: Listing, files: Sequence[str], option: str, column: str | None, most: float | None
) -> Told | None:
    """By a file of the same name that ends in .cls or .json beside each, as in WebDataset."""
    for suffix, word_of in ((".cls", str.strip), (".json", partial(_of_json, column=column))):
        beside = [name for name in listing.ending((suffix,)) if name.rpartition("/")[2] not in LISTS]
        if not beside:
            continue
        keys = {_key(name) for name in files}
        beside = [name for name in beside if _key(name) in keys]
        if not beside or not any(
            _word_in(listing, name, text, word_of) for name, text in _texts(listing, beside[:1], most)
        ):
            continue
        words = {_key(name): _word_in(listing, name, text, word_of) for name, text in _texts(listing, beside, most)}
        label = {name: word for name in files if (word := words.get(_key(name)))}
        _check_all(label, files, listing.path, option, f"in a {suffix} beside it")
        return Told(label, by=f"the {suffix} beside each", used=frozenset(beside))
    return None


def _key(name: str) -> str:
    """What the files of one sample have in common: the name up to the first point of its last part."""
    folder, _, own = name.rpartition("/")
    return f"{folder}/{own.partition('.')[0]}"


def _of_json(text: str, column: str | None) -> str:
    content = json.loads(text)
    which = _column(list(content), column) if isinstance(content, dict) else None
    return "" if which is None else _word(content[which])


def _word_in(listing: Listing, name: str, text: str, word_of: Callable[[str], str]) -> str:
    try:
        return word_of(text)
    except ValueError as error:
        raise ValueError(f"{listing.path}: {name}: cannot be read ({reason(error)}): repair or remove it") from error


def _column(columns: Sequence[str], wanted: str | None) -> str | None:
    if wanted is not None and wanted not in columns:
        raise ValueError(f"it has no {wanted!r}, but {', '.join(map(str, columns))}")
    return wanted or next((word for word in COLUMNS if word in columns), None)


def _word(value: object) -> str:
    """A class in words."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not str(value).strip():
        raise ValueError(f"a class must be a number or a word; got {str(value)[:40]!r}")
    return str(value).strip()


def _check_all(label: Mapping[str, str], files: Sequence[str], path: Path, option: str, where: str) -> None:
    if missing := [name for name in files if name not in label]:
        raise ValueError(
            f"{path}: {counted(len(missing), 'file')} of {len(files)} have no class {where}, {missing[0]} for one: add "
            f"them, or read without classes: {option}.labels false"
        )


def _texts(listing: Listing, names: Sequence[str], most: float | None) -> Iterable[tuple[str, str]]:
    wanted = frozenset(names)
    for name, read in members(listing, wanted, most) if wanted else ():
        try:
            yield str(name), read().decode("utf-8-sig")
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{listing.path}: {name}: cannot be read ({reason(error)}): repair or remove it"
            ) from error
