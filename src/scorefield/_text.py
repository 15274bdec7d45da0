"""Text of others: names of classes and files, what a model says of its training. It comes with anything in it."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Generator
from typing import Any


def printable(text: str, kept: str = "") -> str:
    """Text without what a terminal would obey: control characters, escape sequences, turned writing, broken bytes.

    They are written as in Python, ESC as \\x1b, a line feed as \\n.

    Args:
        text: of others.
        kept: characters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def as_markdown(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no end of a table's cell or of the line."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\`*\[\]|$~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)


class _Printable:
    """A stream that only printable text goes through."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes it; a line ends where `print` ends it, by a line feed of its own."""
        return self._stream.write(text if text == "\n" else printable(text, "\t"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def only_printable() -> Generator[None]:
    """What is printed inside the block is printable."""
    out: Any = _Printable(sys.stdout)
    with contextlib.redirect_stdout(out):
        yield
