"""The command line: options and YAML files come straight from the signatures and docstrings of the commands."""

from __future__ import annotations

import difflib
import errno
import functools
import inspect
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jsonargparse import ArgumentParser

import scorefield
from scorefield import __version__, nn, objectives, operators, posterior, solvers
from scorefield.cli.average import average
from scorefield.cli.certify import certify
from scorefield.cli.convert import export, import_
from scorefield.cli.demo import demo
from scorefield.cli.encode import encode
from scorefield.cli.evaluate import evaluate
from scorefield.cli.info import info
from scorefield.cli.invert import invert
from scorefield.cli.likelihood import likelihood
from scorefield.cli.parts.reading import told
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

# arguments that have no name on the command line
POSITIONAL = {"run": "directory of a trained model", "path": "what another project has written"}


class Parser(ArgumentParser):
    """Says which class may have been meant by a name that is none's."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the message, and ends the program."""
        if unknown := re.search(r"Expected a dot import path string: (\w+)", message):
            modules = (scorefield, nn, objectives, operators, posterior, solvers)
            names = {name.casefold(): name for module in modules for name in vars(module) if name[0].isupper()}
            word = unknown[1].casefold()
            within = [name for name in names if word in name]
            close = [names[name] for name in within or difflib.get_close_matches(word, names)]
            meant = f"did you mean {' or '.join(close)}?" if close else "a class of your own needs its import path"
            message += f"\nthere is no class {unknown[1]}: {meant}"
        if "Expected a <class 'str'>. Got value: " in message:
            message += "\nin lists and in files of options a name that looks like a number stands in quotes: '001'"
        super().error(message, ex)


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
            sub.add_argument("--config", action="config", help="YAML file with any of these options")
        positional = {names[0]: POSITIONAL[names[0]]} if names[0] in POSITIONAL else {}
        for argument, meaning in positional.items():
            sub.add_argument(argument, type=Path, help=meaning)
        sub.add_function_arguments(command, as_group=False, as_positional=False, skip=set(positional))
        commands.add_subcommand(name, sub, help=summary)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    top = parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["certify"] and len(words) > 1 and not words[1].startswith("-"):
        words.insert(1, "--solver")  # a positional argument could not have options of its own, as --solver.order
    options = top.parse_args(words)
    typed.set(words)
    given = top.parse_args(words, defaults=False)[options.subcommand]
    told.set(frozenset(given.keys()))
    try:
        with warnings.catch_warnings(), distributed.joined():
            warnings.showwarning = _say
            chosen = top.instantiate(options)[options.subcommand].as_dict()
            if "config" not in inspect.signature(COMMANDS[options.subcommand]).parameters:
                chosen.pop("config", None)
            COMMANDS[options.subcommand](**chosen)
    except (ValueError, TypeError, OSError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        remedy = ": make space, then run the command again, training with --resume true" if full else ""
        print(f"scorefield {options.subcommand}: error: {'; '.join(str(error).splitlines())}{remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _say(message: Warning | str, *_: object, **__: object) -> None:
    print(f"scorefield: warning: {message}", file=sys.stderr)
