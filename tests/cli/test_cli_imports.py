"""What a command imports: a file of options has what it names imported only if the command line names it too."""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import pytest
import torch

from scorefield.cli import main
from scorefield.cli.parts.featuring import FileOfFeatures

pytestmark = pytest.mark.usefixtures("unchecked")

MODULE = """
from dataclasses import dataclass
from pathlib import Path
import torch
from scorefield import VP
from scorefield.metrics import Features
from scorefield.solvers import Heun

Path("imported").touch()

@dataclass(frozen=True, kw_only=True)
class Mine(VP):
    more: float = 1.0

class Steps(Heun):
    pass

class Flat(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1).float()

safetensors = pt = npy = Flat
"""
NET = ["--net", "MLP", "--net.features", "4", "--net.blocks", "1"]
WITHOUT = ["train", "--data", "two_moons", "--steps", "2", "--previews", "0", "--validation", "0"]
TRAIN = [*WITHOUT, *NET]
NAMING = {
    "sde: {name}": TRAIN,
    "sde:\n  class_path: {name}\n  init_args:\n    beta_max: 10": TRAIN,
    "objective:\n  class_path: DenoisingScoreMatching\n  init_args:\n    weight: {name}": TRAIN,
    "net: {name}": WITHOUT,
    "types: ['{name}']": TRAIN,
    "optimisation:\n  lr: 1e-3\nprecond: {name}": TRAIN,
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of a user's in the working directory."""
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("options", NAMING)
def test_what_a_file_of_options_names_is_not_imported(options, mine, tmp_path, capsys):
    (tmp_path / "options.yaml").write_text(options.format(name=f"{mine}.Mine") + "\n")
    with pytest.raises(SystemExit) as ended:
        main([*NAMING[options], "--config", "options.yaml", "--out", "run"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert f"{mine}.Mine is of another package than scorefield" in said and f"--types [{mine}.Mine]" in said
    assert not (tmp_path / "imported").exists() and mine not in sys.modules


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "builtins.eval", "runpy.run_path"])
def test_the_standard_library_is_not_a_class_of_the_users(name, tmp_path, monkeypatch, capsys):
    """Not even when it is typed."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*TRAIN, "--sde", name, "--out", "run"])
    assert ended.value.code == 2 and "another package than scorefield" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["--types [{}.Mine]", "--sde {}.Mine", "--types=['{}.Mine']"])
def test_what_is_typed_may_be_named_by_the_file_too(typed, mine, tmp_path, capsys):
    (tmp_path / "options.yaml").write_text(f"sde:\n  class_path: {mine}.Mine\n  init_args:\n    more: 2.0\n")
    words = ["--config", "options.yaml", *typed.format(mine).split()]
    assert main([*TRAIN, *words, "--out", "run"]) == 0
    assert (tmp_path / "imported").exists()
    assert main(["info", "run", "--types", f"[{mine}.Mine]"]) == 0
    assert "Mine(" in capsys.readouterr().out


def test_a_command_allows_nothing_to_the_next(mine, tmp_path, capsys):
    (tmp_path / "options.yaml").write_text(f"sde: {mine}.Mine\n")
    assert main([*TRAIN, "--sde", f"{mine}.Mine", "--out", "run"]) == 0
    with pytest.raises(SystemExit):
        main([*TRAIN, "--config", "options.yaml", "--out", "another"])
    assert "another package" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out {}.Mine", "--data {}.npy", "--label {}.Mine", "--device {}.Mine"])
def test_words_that_are_no_classes_allow_nothing(option, mine, tmp_path, capsys):
    """The name of a file beside which a module of the same name lies, above all."""
    np.save(tmp_path / f"{mine}.npy", np.zeros((4, 2), np.float32))
    (tmp_path / "options.yaml").write_text(f"solver: {mine}.Steps\nout: x.npz\n")
    command = "sample run" if "--data" not in option else "likelihood run"
    with pytest.raises(SystemExit):
        main([*command.split(), "--config", "options.yaml", *option.format(mine).split()])
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("ending", ["ckpt", "PT", "Safetensors", "npz"])
def test_a_name_of_a_file_that_is_not_there_is_no_module(ending, mine, tmp_path, capsys):
    assert main(["stats", "--data", "[two_moons]", "--extractor", f"{mine}.{ending}", "--out", "x.npz"]) == 2
    assert f"{mine}.{ending}: neither a file nor a class" in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("named", ["--operator.mask {}.png", "--extractor {}.safetensors"])
def test_a_name_of_a_file_allows_nothing_to_a_file_of_options(named, mine, tmp_path, capsys):
    command = "invert run --y y.npy --operator Mask" if "mask" in named else "stats --data [two_moons]"
    (tmp_path / "options.yaml").write_text(f"{'method' if 'mask' in named else 'extractor'}: {mine}.Mine\n")
    with contextlib.suppress(SystemExit):
        assert main([*command.split(), *named.format(mine).split(), "--config", "options.yaml", "--out", "x.npz"]) == 2
    assert "error:" in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("ending", ["safetensors", "pt", "npy"])
@pytest.mark.parametrize("command", ["evaluate", "stats"])
def test_a_file_of_features_is_not_a_module_of_the_same_name(command, ending, mine, tmp_path, capsys):
    """`--extractor extractor.safetensors` imported extractor.py, if one lay there."""
    name = f"{mine}.{ending}"
    (tmp_path / name).write_bytes(b"no features")
    words = ["--data", "[two_moons]"] if command == "stats" else ["run", "--data", "two_moons", "--test", "two_moons"]
    if command == "evaluate":
        assert main([*TRAIN, "--out", "run"]) == 0
    out = "x.npz" if command == "stats" else "report"
    assert main([command, *words, "--extractor", name, "--out", out]) == 2
    assert f"{name}: " in capsys.readouterr().err
    assert not (tmp_path / "imported").exists() and mine not in sys.modules


def test_a_file_is_one_by_its_ending_or_because_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("gone.safetensors", "gone.pt", "./features", "folder/mine.Net"):
        assert FileOfFeatures.named(text) == FileOfFeatures(text)
    for text in ("mine.Net", "Pixels", "torch.nn.Flatten", 3):
        with pytest.raises(ValueError, match="is no file"):
            FileOfFeatures.named(text)
    (tmp_path / "mine.Net").touch()
    assert FileOfFeatures.named("mine.Net").is_file()


def test_a_class_of_features_is_imported_where_nothing_else_is_meant(mine, tmp_path):
    np.save(tmp_path / "data.npy", torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).numpy())
    assert main(["stats", "--data", "[data.npy]", "--extractor", f"{mine}.Flat", "--out", "x.npz"]) == 0
    assert (tmp_path / "imported").exists() and (tmp_path / "x.npz").exists()
