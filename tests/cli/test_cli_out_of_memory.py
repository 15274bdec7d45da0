"""Every command that runs out of memory ends in one line that names its own options which need less."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import torch
from helpers.limits import memory_left

from scorefield import cli
from scorefield.cli import main

pytestmark = pytest.mark.usefixtures("unchecked")

# what is typed, and the remedies that the command has; the others of REMEDIES it has not
COMMANDS = {
    "demo": ("", "a lower --samples"),
    "train": ("--data a --out b", "a lower --batch_size or a higher --accumulate"),
    "train-classifier": ("a --data b --out c", "a lower --batch_size"),
    "sample": ("a", "fewer --seeds or a lower --batch_size"),
    "likelihood": ("a --data b", "a lower --limit or a lower --batch_size"),
    "encode": ("a --data b", "a lower --limit or a lower --batch_size"),
    "invert": ("a --operator Colorize --y b", "a lower --samples or a lower --batch_size"),
    "evaluate": ("a --data b --out c", "a lower --effort.samples or a lower --effort.batch_size"),
    "stats": ("--data a --out b.npz", "a lower --limit or a lower --batch_size"),
    "average": ("a --width 0.1 --out b", None),
    "info": ("a", None),
    "import": ("a --format diffusers --out b", None),
    "export": ("a --format diffusers --out b", None),
    "certify": ("DDIM", None),
}
CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 16.00 GiB"


def torch_cpu() -> None:
    torch.empty(1 << 50, dtype=torch.uint8)


def numpy() -> None:
    np.empty(1 << 50, dtype=np.uint8)


def python() -> None:
    bytearray(1 << 62)


def raising(error):
    def fail() -> None:
        raise error

    return fail


ERRORS = {  # what runs out, and what is said of the amount
    "torch": (torch_cpu, " when 1 PiB more were wanted"),
    "NumPy": (numpy, r" when 1.00 PiB more were wanted"),
    "Python": (python, ""),
    "CUDA": (raising(torch.OutOfMemoryError(CUDA)), " when 20.00 GiB more were wanted"),
    "driver": (raising(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be")), ""),
    "cuBLAS": (raising(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")), ""),
    "system": (raising(OSError(12, "Cannot allocate memory")), ""),
}


def planted(monkeypatch, command: str, fail) -> int:
    """The status of a command that does nothing but fail."""

    @functools.wraps(cli.COMMANDS[command])
    def broken(**_: object) -> None:
        fail()

    monkeypatch.setitem(cli.COMMANDS, command, broken)
    return main([command, *COMMANDS[command][0].split()])


def test_every_command_is_here():
    assert {*COMMANDS} == {*cli.COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_runs_out_of_memory_names_its_options(command, monkeypatch, capsys):
    assert planted(monkeypatch, command, torch_cpu) == 2
    wanted = f"give {COMMANDS[command][1]}" if COMMANDS[command][1] else "end other programs"
    line = f"scorefield {command}: error: out of memory when 1 PiB more were wanted: {wanted}\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("what", ERRORS)
def test_whatever_runs_out_is_recognised(what, monkeypatch, capsys):
    fail, amount = ERRORS[what]
    assert planted(monkeypatch, "encode", fail) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"scorefield encode: error: out of memory{amount}: give a lower .*batch_size\n", said), said


@pytest.mark.parametrize(
    "error", [RuntimeError("the shapes do not fit"), RuntimeError("CUDA error: device-side assert")]
)
def test_other_errors_of_torch_are_not_hidden(error, monkeypatch):
    with pytest.raises(RuntimeError, match=re.escape(str(error))):
        planted(monkeypatch, "encode", raising(error))


def test_the_remedies_work(tmp_path, capsys):
    """Training with batches for which there is no memory, by the real allocator; then by a remedy."""
    options = ["--net", "MLP", "--net.features", "16", "--net.blocks", "1", "--device", "cpu", "--steps", "1"]

    def train(name: str, *more: object) -> int:
        return main(["train", "--data", "two_moons", "--out", str(tmp_path / name), *options, *map(str, more)])

    assert train("first", "--batch_size", 100) == 0  # whatever is loaded late is loaded now
    with memory_left(80 << 20):
        assert train("a", "--batch_size", 500_000) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert re.search(
            "out of memory when .* MiB more were wanted: give a lower --batch_size or a higher --acc", said
        )
        assert train("b", "--batch_size", 500_000, "--accumulate", 50) == 0
