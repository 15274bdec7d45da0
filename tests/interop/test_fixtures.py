"""Scores of imported checkpoints are those that the authors' code returned: see fixtures/README.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from scorefield import VP, ScoreModel, SubVP
from scorefield.cli import main

FIXTURES = Path(__file__).parents[1] / "fixtures"
CHECKPOINTS = [
    file
    for file in sorted(FIXTURES.glob("*/*"))
    if file.suffix not in (".json", ".yml", ".safetensors") and file.with_suffix(".safetensors").is_file()
]
WEIGHTS = {"score": "model", "score_ema": "ema"}


def authors_std(model: ScoreModel, t: Tensor) -> Tensor:
    """sigma as the authors compute it: 1 - exp(-B) in float32 has lost four digits at t = 0.001, where B = 1e-4."""
    sde = model.denoiser.sde
    if isinstance(sde, VP | SubVP):
        mean = -0.25 * t**2 * (sde.beta_max - sde.beta_min) - 0.5 * t * sde.beta_min
        variance = 1 - torch.exp(2 * mean)
        return variance.sqrt() if isinstance(sde, VP) else variance
    return sde.sigma(t.double()).float()


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda file: f"{file.parent.name} {file.stem}")
def test_scores_are_those_of_the_authors_code(checkpoint, kind, tmp_path):
    """Relative to 2e-5, in float32. Kills every wrong factor of every part, and averages in another order."""
    told = load_file(checkpoint.with_suffix(".safetensors"))
    if kind not in told:
        pytest.skip("the fixture has no such weights")
    words = ["import", str(checkpoint), "--format", checkpoint.parent.name, "--out", str(tmp_path)]
    config = next((c for c in map(checkpoint.with_suffix, (".json", ".yml")) if c.is_file()), None)
    words += ["--config", str(config)] if config else []
    assert main([*words, *(["--weights", WEIGHTS[kind]] if "score_ema" in told else [])]) == 0
    model = ScoreModel.load(tmp_path)
    centred = config is None or json.loads(config.read_text())["data"]["centered"]
    unit = 1.0 if centred else 2.0  # of the authors' data, [-1, 1] or [0, 1], in those of the model
    x, t = told["x"] if centred else 2 * told["x"] - 1, told["t"]
    with torch.no_grad():
        noise = model.denoiser.noise(x, t.double())
    wanted = -told[kind] * (authors_std(model, t) / unit).reshape(-1, 1, 1, 1)
    error = (noise - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
    assert float(error.max()) < 2e-5, error.tolist()


def test_there_are_fixtures():
    assert {file.stem for file in CHECKPOINTS} >= {"ve_ncsnpp_continuous", "vp_ddpm_continuous", "vp_ddpmpp_continuous"}
