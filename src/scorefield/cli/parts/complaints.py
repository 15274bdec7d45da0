"""What the parser of the options finds wrong, in one line: what was got, what was wanted, the remedy."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from scorefield._inputs import meant

POSITIONAL = {
    "run": "the directory of a trained model",
    "path": "what another project has written",
    "what": "the directory of a trained model, or data",
}
LIST = "a list such as [1,2]"
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": LIST,
    "list": LIST,
    "Sequence": LIST,
}


class Fault(NamedTuple):
    """What is wrong about a value, and with which option inside of the one at hand.

    Attributes:
        option: names joined by dots, empty for the option at hand.
        words: what is wrong.
    """

    option: str
    words: str


def explained(message: str, options: Iterable[str], classes: Mapping[str, type]) -> str:
    """A message of jsonargparse or argparse in one line.

    Args:
        message: of several lines, with the names of Python's types.
        options: that the command has, --out and the like.
        classes: the public ones by their names.
    """
    if found := re.match(r"the following arguments are required: (.*)", message):
        command, names = found[1].partition(".")[0], [name.partition(".")[2] for name in found[1].split(", ")]
        wanted = [f"{name} ({POSITIONAL[name]})" if name in POSITIONAL else f"--{name}" for name in names]
        return f"{command} wants {', '.join(wanted)} as well"
    if found := re.match(r"unrecognized arguments: (\S+)", message):
        word = found[1].partition("=")[0]
        return f"there is no option {word}{meant(word, options)}" if word[:1] == "-" else f"{word}: one word too many"
    if found := re.match(r"argument subcommand: invalid choice: '(.*?)' \(choose from (.*)\)", message):
        commands = re.findall(r"[\w-]+", found[2])
        return f"there is no command {found[1]}{meant(found[1], commands) or ': there are ' + ', '.join(commands)}"
    if message.startswith('expected "subcommand"'):
        return "wanted a command: scorefield --help names them"
    if found := re.match(r"argument (\S+): (.*)", message):
        return f"{found[1]}: {found[2]}"
    if found := re.search(r"Importing '([\w.]+)' is not allowed", message):
        option = re.search(r'Parser key "([^"]*)"', message)
        return (
            f"{f'--{option[1]}: ' if option else ''}{found[1]} is of another package than scorefield, and a file of "
            f"options runs what it names: if you trust it, name it on the command line too, by --types [{found[1]}]"
        )
    fault = _fault(message, classes)
    return f"--{fault.option}: {fault.words}" if fault.option else fault.words


def _fault(text: str, classes: Mapping[str, type]) -> Fault:
    """The fault at the end of what may be a tree of them, one inside of another or one for each type in question."""
    text = text.strip()
    if found := re.match(r'Parser key "(.*?)":\s', text):
        inner = _fault(text[found.end() :], classes)
        return inner._replace(option=".".join(part for part in (found[1], inner.option) if part))
    if text.startswith("Does not validate against any of the Union subtypes"):
        return _of_union(text, classes)
    if found := re.match(r"Problem with given class_path '(.*?)':\n", text):
        inner = text[found.end() :].strip()
        return Fault("", _of_option(found[1], inner)) if inner.startswith("Option ") else _fault(inner, classes)
    return Fault("", _leaf(" ".join(text.split()), classes))


def _of_union(text: str, classes: Mapping[str, type]) -> Fault:
    """The fault of a value that may be of several types: that inside of the class which was named, if one was."""
    head, _, rest = text.partition("Errors:\n")
    body, _, given = rest.partition("Given value type:")
    value = given.partition("Given value: ")[2].strip()
    indent = len(body) - len(body.lstrip())
    errors = [part.strip() for part in re.split(rf"(?m)^ {{{indent}}}- ", body) if part.strip()]
    errors = [part for part in errors if "NoneType" not in part and "does not correspond to a subclass" not in part]
    kinds = [kind for kind in map(pydoc.locate, re.findall(r"scorefield[\w.]*", head)) if isinstance(kind, type)]
    suited = {name: kind for name, kind in classes.items() if kind not in kinds and _is_any(kind, kinds)}
    nested = re.match(r"NestedArg\(key='(.*?)'", value)
    if nested and "is abstract" in errors[0]:
        return Fault(nested[1], "is an option of a class: name the class before it")
    if set(errors) == {f"Expected a dot import path string: {value}"} or value in classes:
        return Fault("", _no_class(value, kinds, suited, classes))
    if not errors:
        return Fault("", f"wanted a class of the kind {' or '.join(kind.__name__ for kind in kinds)}; got {value}")
    faults = dict.fromkeys(_fault(part, suited) for part in errors)
    fault = next((fault for fault in faults if fault.option), None)
    if fault is None:
        words = " or ".join(fault.words for fault in faults).replace(" or wanted", " or")
        plain = nested or value.startswith("Namespace") or "got" in words
        fault = Fault("", words if plain else f"{words}; got {value}")
    return fault


def _no_class(name: str, kinds: Sequence[type], suited: Mapping[str, type], classes: Mapping[str, type]) -> str:
    if found := re.match(r"(\w+)\(", name):
        return (
            f"options of a class have words of their own: {found[1]}, then the option's name with a value; got {name}"
        )
    usable = [name for name, kind in suited.items() if not inspect.isabstract(kind)]
    there_are = f"there are {', '.join(usable)}, or a class of your own by its import path"
    if name in classes:
        kin = any(_package(classes[name]) == _package(kind) for kind in kinds)
        return f"{name} is {'for Python alone' if kin else 'a class of another kind'}; {there_are}"
    return f"there is no class {name}{meant(name, usable) or f'; {there_are}'}"


def _of_option(path: str, text: str) -> str:
    """Of an option that a class does not have."""
    kind, name = pydoc.locate(path), text.partition("'")[2].partition("'")[0]
    has = list(inspect.signature(kind).parameters) if isinstance(kind, type) else []
    rest = meant(name, has) or (f"; it has {', '.join(has)}" if has else "; it has none")
    return f"{path.rpartition('.')[2]} has no option {name}{rest}"


def _leaf(text: str, classes: Mapping[str, type]) -> str:
    if found := re.match(r"Expected a dot import path string: (.*)", text):
        return f"there is no class {found[1]}{meant(found[1], classes) or ': one of your own needs its import path'}"
    if found := re.match(r"Type .* callable class: (Option .*) Got value: Namespace\(class_path='(.*?)'", text):
        return _of_option(found[2], found[1])
    if found := re.match(r"Expected a member of <enum '\w+'>: \{(.*?)\}(?:\. Got value: (.*))?", text):
        return f"wanted {found[1].replace(',', ', ')}{_got(found[2])}"
    if found := re.match(r"Expected a <class '([\w.]+)'>(?:\. Got value: (.*))?", text):
        kind = found[1].rpartition(".")[2]
        quotes = "; in lists and in files of options a name that looks like a number stands in quotes: '001'"
        return f"wanted {WORDS.get(kind, kind)}{_got(found[2])}{quotes if kind == 'str' else ''}"
    return re.sub(r"\W*Got value: (Namespace|NestedArg).*", "", text)


def _got(value: str | None) -> str:
    return f"; got {value}" if value else ""


def _is_any(kind: type, wanted: Sequence[type]) -> bool:
    try:
        return issubclass(kind, tuple(wanted))
    except TypeError:  # of a protocol with more than methods only instances tell
        return any(_package(kind) == _package(one) for one in wanted)


def _package(kind: type) -> str:
    return kind.__module__.rpartition(".")[0]
