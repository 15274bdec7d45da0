"""Lists need no brackets on the command line, whatever class the option is of."""

from __future__ import annotations

import pytest

from scorefield.cli import parser
from scorefield.cli.parts.importing import allow
from scorefield.cli.parts.lists import parsed

TRAIN = ("train", "--data", "x", "--out", "y")
LISTS = {  # the words, the option and its value
    ("--reading.table.cond", "z"): ("reading.table.cond", ["z"]),
    ("--reading.table.cond=z",): ("reading.table.cond", ["z"]),
    ("--reading.table.columns", "x,y"): ("reading.table.columns", ["x", "y"]),
    ("--reading.table.columns", "x, the y"): ("reading.table.columns", ["x", "the y"]),
    ("--reading.table.columns", "0,001"): ("reading.table.columns", ["0", "001"]),
    ("--reading.table.columns", "[0,001]"): ("reading.table.columns", ["0", "001"]),
    ("--reading.table.columns", "['x','y']"): ("reading.table.columns", ["x", "y"]),
    ("--reading.table.columns", "a: b,#c"): ("reading.table.columns", ["a: b", "#c"]),
    ("--reading.table.columns", ""): ("reading.table.columns", []),
    ("--reading.images.size", "8x10"): ("reading.images.size", (8, 10)),
    ("--reading.images.size", "8,10"): ("reading.images.size", (8, 10)),
    ("--reading.images.size", "8"): ("reading.images.size", 8),
    ("--optimisation.half_lives", "3000"): ("optimisation.half_lives", (3000.0,)),
    ("--optimisation.betas", "0.9,0.99"): ("optimisation.betas", (0.9, 0.99)),
    ("--net", "UNet", "--net.channels", "1,2"): ("net.init_args.channels", [1, 2]),
    ("--net", "UNet", "--net.channels", "8"): ("net.init_args.channels", [8]),
}


def options_of(words):
    allow(words, None)
    return parsed(words, parser().parse_args)


@pytest.mark.parametrize("words", LISTS)
def test_a_list_needs_no_brackets(words):
    option, value = LISTS[words]
    options, read = options_of([*TRAIN, *words])
    assert options[f"train.{option}"] == value
    assert parser().parse_args(read)[f"train.{option}"] == value  # the words are as good without help


def test_a_list_may_begin_with_a_negative_number():
    words = ["invert", "run", "--y", "y", "--operator", "Colorize", "--operator.weights", "-.5,1,0.5"]
    assert options_of(words)[0]["invert.operator.init_args.weights"] == [-0.5, 1.0, 0.5]
    assert str(options_of(["sample", "run", "--cond", "-1,2"])[0]["sample.cond"]) == "-1,2"


def test_what_is_no_list_is_as_it_was_typed():
    words = ["sample", "run", "--seeds", "1,5,10-12", "--label", "a,b", "--guidance_interval", "0.2,2"]
    options, read = options_of(words)
    assert (options["sample.seeds"], options["sample.label"]) == ("1,5,10-12", "a,b")
    assert options["sample.guidance_interval"] == (0.2, 2.0) and read[:-1] == words[:-1]
