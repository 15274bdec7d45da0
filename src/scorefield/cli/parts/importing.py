"""Whose code a command may import: scorefield's, and that of packages of which the user has typed a class.

A file of options is a program, since it may name any class with any arguments. What it names is imported only if it is
of scorefield, or of a package that the command line itself names where a class is wanted: `--sde mine.MySDE`, or
`--types "[mine.MySDE]"`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from enum import EnumType
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import set_parsing_settings

ENDINGS = re.compile(  # of names that are files' and no classes', whether there are such files or not
    r"\.(?:safetensors|ckpt|bin|pkl|pickle|onnx|jit|ts|pth?|np[yz]|png|jpe?g|tiff?|gif|webp|bmp|p[gpbn]m|wav|flac|ogg"
    r"|csv|tsv|parquet|h5|hdf5|zarr|nc|nii|gz|zip|tar|ya?ml|json|txt|py)$",
    re.IGNORECASE,
)
PLAIN = (str, int, float, bool, NoneType, Path)
_earlier = set[str]()  # packages of the commands that this process has run


def allow(words: Sequence[str], command: Callable[..., object] | None) -> None:
    """Lets the parser import the classes of scorefield, and of packages that a command's words name as a class's."""
    typed = {name.partition(".")[0] for name in _typed_classes(words, command)} - sys.stdlib_module_names
    set_parsing_settings(
        import_path_denylist=["*", *sorted(_earlier - typed)], import_path_allowlist=["scorefield", *sorted(typed)]
    )
    _earlier.update(typed)


def names_a_file(text: str) -> bool:
    """Whether a word ends as the names of files do."""
    return ENDINGS.search(text.strip()) is not None


def _typed_classes(words: Sequence[str], command: Callable[..., object] | None) -> Iterator[str]:
    """Import paths among the values of the options that take classes."""
    taking = {name for name, hint in get_type_hints(command).items() if _takes_classes(hint)} if command else set[str]()
    option = ""
    for word in words:
        value = word
        if word.startswith("--"):
            option, _, value = word[2:].partition("=")
        if option.partition(".")[0] in taking and not (Path(value).exists() or names_a_file(value)):
            yield from re.findall(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", value)


def _takes_classes(hint: Any) -> bool:
    """Whether a value of an option may be a class by its import path."""
    if get_origin(hint) is Callable or hint is type:
        return True
    if parts := get_args(hint):
        return any(_takes_classes(part) for part in parts)
    if not isinstance(hint, type) or issubclass(hint, PLAIN) or isinstance(hint, EnumType):
        return False
    return inspect.isabstract(hint) or not is_dataclass(hint)
