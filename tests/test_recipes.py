"""The recipes: each is understood by the command line, and those on data that ship with a dependency run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scorefield import ScoreModel
from scorefield.cli import main, parser
from scorefield.nn import seeded

SHAPES = {
    "audio": (1, 8192),
    "brain": (1, 64, 64),
    "cifar10_ncsnpp": (3, 32, 32),
    "colour_patches": (3, 24, 24),
    "digits": (1, 8, 8),
    "fashion_mnist": (1, 28, 28),
    "tutorial_mnist": (1, 28, 28),
    "two_moons": (2,),
}
RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_understood_and_says_how_to_run_it(recipe):
    options = parser().parse_args(["train", "--config", str(recipe), "--data", "x", "--out", "run"])
    chosen = parser().instantiate(options).train
    with seeded(0), torch.device("meta"):
        size = chosen.reading.images.size
        chosen.net(SHAPES[recipe.stem] if size is None else (3, *size), 2 * chosen.use_labels)
    assert f"scorefield train --config recipes/{recipe.name}" in recipe.read_text()


@pytest.mark.parametrize("name", ["digits", "two_moons"])
def test_a_recipe_runs(name, tmp_path):
    (recipe,) = (path for path in RECIPES if path.stem == name)
    assert main(["train", "--config", str(recipe), "--out", str(tmp_path), "--steps", "2", "--device", "cpu"]) == 0
    assert ScoreModel.load(tmp_path).about["step"] == 2
