"""The command line: options and YAML files come straight from the signatures and docstrings of the commands."""

from __future__ import annotations

import errno
import functools
import inspect
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jsonargparse import ArgumentParser, Namespace

import scorefield
from scorefield import __version__, metrics, nn, objectives, operators, posterior, solvers
from scorefield._text import only_printable, printable
from scorefield.cli.average import average
from scorefield.cli.certify import certify
from scorefield.cli.convert import export, import_
from scorefield.cli.demo import demo
from scorefield.cli.encode import encode
from scorefield.cli.evaluate import evaluate
from scorefield.cli.info import info
from scorefield.cli.invert import invert
from scorefield.cli.likelihood import likelihood
from scorefield.cli.parts import measuring
from scorefield.cli.parts.complaints import POSITIONAL, explained
from scorefield.cli.parts.importing import allow
from scorefield.cli.parts.lists import Mistake, parsed
from scorefield.cli.parts.out_of_memory import out_of_memory
from scorefield.cli.parts.reading import told
from scorefield.cli.parts.signals import say
from scorefield.cli.parts.sources import typed
from scorefield.cli.sample import sample
from scorefield.cli.stats import stats
from scorefield.cli.train import train
from scorefield.cli.train_classifier import train_classifier
from scorefield.training import distributed

COMMANDS = {
    "demo": demo,
    "train": train,
    "train-classifier": train_classifier,
    "sample": sample,
    "likelihood": likelihood,
    "encode": encode,
    "invert": invert,
    "evaluate": evaluate,
    "stats": stats,
    "average": average,
    "info": info,
    "import": import_,
    "export": export,
    "certify": certify,
}


class Misread(Mistake):
    """A mistake, of which the parser says in one line what is wrong."""

    def __init__(self, message: str, parser: ArgumentParser) -> None:
        super().__init__(message)
        self.parser = parser

    def end(self) -> NoReturn:
        """Prints what is wrong, and ends the program."""
        options = [word for action in self.parser._actions for word in action.option_strings]  # pyright: ignore[reportPrivateUsage]
        said = printable(explained(str(self), options, named_classes()))
        print(f"{self.parser.prog.replace(' [options]', '')}: error: {said}", file=sys.stderr)
        self.parser.exit(2)


class Parser(ArgumentParser):
    """Leaves it to others what to do about a mistake."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises what is wrong, or leaves it to the outer parser."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise Misread(message, getattr(ex, "subcommand_parser", None) or self)


def named_classes() -> dict[str, type]:
    """The classes that options may name without their import path, and their kin in Python."""
    modules = (scorefield, metrics, nn, objectives, operators, posterior, solvers, measuring)
    return {name: kind for module in modules for name, kind in vars(module).items() if isinstance(kind, type)}


@functools.cache  # to build it takes longer than many commands do
def parser() -> Parser:
    """The parser of the whole command line."""
    top = Parser(prog="scorefield", description="Score-based generative modelling.", version=__version__)
    commands = top.add_subcommands(required=True)
    for name, command in COMMANDS.items():
        summary = (command.__doc__ or "").partition("\n")[0]
        sub = Parser(description=summary)
        names = list(inspect.signature(command).parameters)
        if "config" not in names:
            sub.add_argument(
                "--config",
                action="config",
                help="YAML file with any of these options; it may name classes of scorefield, and those of other "
                "packages only if a class of them is named on the command line as well, by an option or by --types",
            )
        positional = {names[0]: POSITIONAL[names[0]]} if names[0] in POSITIONAL else {}
        for argument, meaning in positional.items():
            sub.add_argument(argument, type=Path, help=meaning)
        sub.add_function_arguments(command, as_group=False, as_positional=False, skip=set(positional))
        for action in sub._actions:  # pyright: ignore[reportPrivateUsage]
            if action.dest == "extractor":  # any module may be one, but of torch's hundred none is
                action.extra_help = lambda: ""  # pyright: ignore[reportAttributeAccessIssue]
        commands.add_subcommand(name, sub, help=summary)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    top = parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["certify"] and len(words) > 1 and not words[1].startswith("-"):
        words.insert(1, "--solver")  # a positional argument could not have options of its own, as --solver.order
    allow(words, next((COMMANDS[word] for word in words if word in COMMANDS), None))
    typed.set(words)
    try:
        options, words = parsed(words, top.parse_args)
    except Misread as mistake:
        mistake.end()
    given = top.parse_args(words, defaults=False)[options.subcommand]
    told.set(frozenset(given.keys()))
    try:
        with warnings.catch_warnings(), only_printable(), distributed.joined():
            warnings.showwarning = _say
            chosen = _instantiated(top, options)[options.subcommand].as_dict()
            if "config" not in inspect.signature(COMMANDS[options.subcommand]).parameters:
                chosen.pop("config", None)
            COMMANDS[options.subcommand](**chosen)
    except (ValueError, TypeError, OSError, MemoryError, RuntimeError) as error:
        exhausted = out_of_memory(error, COMMANDS[options.subcommand])
        if isinstance(error, RuntimeError) and not exhausted:
            raise
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        remedy = ": make space, then run the command again, training with --resume true" if full else ""
        said = printable(exhausted or "; ".join(str(error).splitlines()))
        print(f"scorefield {options.subcommand}: error: {said}{remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _instantiated(top: Parser, options: Namespace) -> Namespace:
    try:
        return top.instantiate(options)
    except (ValueError, TypeError) as error:  # of a class that refuses its options
        raise ValueError(explained(str(error), (), named_classes())) from error


def _say(message: Warning | str, *_: object, **__: object) -> None:
    say(f"scorefield: warning: {printable(str(message))}", sys.stderr)
