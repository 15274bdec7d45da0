"""Lists on the command line as people type them: x,y for ["x","y"], one name alone, 8x10 for [8,10]."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

# by the parser of options, which takes a text "a" out of its own words as well
WANTED = re.compile(r"Expected (?:a )?<class '(?:collections\.abc\.Sequence|tuple|list|str)'>")
UNSUITED = "Expected a tuple with"  # so many elements
NEGATIVE = re.compile(r"-\.?[0-9][^,\s]*,\S*")  # a list that begins with a negative number, not an option
Parsed = TypeVar("Parsed")


class Mistake(Exception):
    """What the parser of the options finds wrong with the words of a command."""


def parsed(words: Sequence[str], parse: Callable[[list[str]], Parsed]) -> tuple[Parsed, list[str]]:
    """What the words of a command are parsed to, and the words with brackets around lists that lack them.

    Which options want lists is known to the parser alone, which meets them class by class: what it refuses as no list
    is tried once more as one, of texts, of which it makes numbers itself where these are wanted.

    Raises:
        Mistake: that of `parse`, of the words as they were typed where brackets do not help.
    """
    words, typed = _joined(words), None
    while True:
        try:
            return parse(words), words
        except Mistake as mistake:
            tried = _with_brackets(words, str(mistake))
            if tried == words:
                raise (typed if typed and UNSUITED in str(mistake) else mistake) from None
            words, typed = tried, mistake


def _joined(words: Sequence[str]) -> list[str]:
    """-1,2 after an option belongs to it."""
    joined: list[str] = []
    for word in words:
        if NEGATIVE.fullmatch(word) and joined and re.fullmatch(r"--[^=]+", joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _with_brackets(words: list[str], message: str) -> list[str]:
    """The words, in which the option that a message is about has a list with brackets."""
    keys = re.findall(r'Parser key "(.*?)"', message)
    if not (keys and WANTED.search(message)):
        return words
    found = list(words)
    for k, word in enumerate(words):
        name, equals, value = word.partition("=")
        inside = name.startswith(f"--{keys[0]}.") and name.rpartition(".")[2] == keys[-1].rpartition(".")[2]
        if not (inside if len(keys) > 1 else name == f"--{keys[0]}"):
            continue
        if equals:
            found[k] = f"{name}={_listed(value)}"
        elif k + 1 < len(words):
            found[k + 1] = _listed(words[k + 1])
    return found


def _listed(value: str) -> str:
    """A plain list of texts in brackets; what holds others, or quotes, is as it was."""
    inner = value[1:-1] if value[:1] + value[-1:] == "[]" else value
    if re.search(r"[\[\]{}'\"]", inner):
        return value
    parts = inner.split("x") if re.fullmatch(r"[0-9]+(x[0-9]+)+", inner) else inner.split(",")
    return json.dumps([part.strip() for part in parts] if inner else [], ensure_ascii=False)
