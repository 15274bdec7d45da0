"""Weights that are not finite: counted and refused where they are read and written, and named by every result."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.networks import awake

from scorefield import VP, ClassifierModel, Diverged, EDMPrecond, NoisyClassifier, Preconditioned, ScoreModel
from scorefield._files import read_tensors, write_tensors
from scorefield._finite import not_finite
from scorefield.cli import main
from scorefield.evaluate import LabelFeatures
from scorefield.nn import MLP, MLPClassifier, UNet, seeded
from scorefield.training import TrainState

BROKEN = r"of its numbers 3 of \d+ are NaN or infinite, the first in (net|average|body)\S*: the training"


def model(**options) -> ScoreModel:
    with seeded(0):
        net = awake(MLP((2,), features=8, blocks=1))
    return ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)), (2,), **options)


def spoiled(path, count: int = 3, value: float = math.nan) -> None:
    """Writes the first numbers of the largest tensor anew, with a digest that fits."""
    tensors, about = read_tensors(path)
    largest = max((v for v in tensors.values() if v.is_floating_point()), key=torch.Tensor.numel)
    largest.view(-1)[:count] = value
    write_tensors(path, tensors, about)


def score_model(path):
    model().save(path)
    spoiled(path / "model.safetensors")
    return lambda: ScoreModel.load(path)


def infinite(path):
    model().save(path)
    spoiled(path / "model.safetensors", value=-math.inf)
    return lambda: ScoreModel.load(path)


def classifier(path):
    with seeded(0):
        net = awake(MLPClassifier((2,), 3, features=8, blocks=1))
    ClassifierModel(NoisyClassifier(net, VP(), 1.0), (2,), 3).save(path)
    spoiled(path / "model.safetensors")
    return lambda: ClassifierModel.load(path)


def state(path):
    TrainState(model().denoiser, seed=0).save(path / "state.safetensors")
    spoiled(path / "state.safetensors")
    return lambda: TrainState(model().denoiser, seed=0).load(path / "state.safetensors")


def features(path):
    with seeded(0):
        LabelFeatures((2,), 3).save(path / "extractor.safetensors")
    spoiled(path / "extractor.safetensors")
    return lambda: LabelFeatures.load(path / "extractor.safetensors")


@pytest.mark.parametrize("make", [score_model, infinite, classifier, state, features])
def test_they_are_counted_where_they_are_read(make, tmp_path):
    load = make(tmp_path)
    with pytest.raises(ValueError, match=rf"safetensors: {BROKEN}"):
        load()


def test_they_are_not_written(tmp_path):
    made = model()
    made.denoiser.net.out.weight.data[0, 0] = math.inf
    with pytest.raises(ValueError, match=r"is not written, since of the model's weights 1 of .* the first in net.out"):
        made.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


X = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
RESULTS = {
    "sample": lambda m: m.sample(seeds=range(3), steps=3),
    "log_prob": lambda m: m.log_prob(X, steps=2),
    "elbo": lambda m: m.elbo(X, draws=8),
    "encode": lambda m: m.encode(X, steps=2),
    "decode": lambda m: m.decode(X, steps=2),
    "score": lambda m: m.score(X, 0.5),
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_names_them(name):
    made = model()
    RESULTS[name](made)
    made.denoiser.net.out.bias.data[:] = math.nan
    with pytest.raises(Diverged, match=r"model's weights 2 of .* are NaN or infinite, the first in net.out.bias"):
        RESULTS[name](made)


@pytest.mark.parametrize(
    "command",
    [
        "sample {run} --out {out}.npz",
        "likelihood {run} --data {data} --out {out}.csv",
        "likelihood {run} --data {data} --method bound --out {out}.csv",
        "encode {run} --data {data} --out {out}.npz",
        "invert {run} --operator Identity --y {data} --sigma 0.1 --out {out}",
        "evaluate {run} --data {data} --test {data} --out {out}",
        "train --data {data} --init {run} --out {out}",
        "info {run}",
        "export {run} --format diffusers --out {out}",
    ],
)
def test_no_command_ends_well_with_them(command, tmp_path, capsys):
    model().save(tmp_path / "run")
    spoiled(tmp_path / "run" / "model.safetensors")
    np.save(tmp_path / "data.npy", X.numpy())
    names = {"run": tmp_path / "run", "data": tmp_path / "data.npy", "out": tmp_path / "out"}
    assert main(command.format(**names).split()) == 2
    assert "of its numbers 3 of " in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"run", "data.npy"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_large_numbers_are_finite(dtype):
    """Their sum is not, which is what is looked at first."""
    large = torch.full((4,), torch.finfo(dtype).max, dtype=dtype)
    assert not_finite({"a": large, "b": torch.ones(2, dtype=torch.int64), "c": torch.zeros(0)}) == ""
    large[2] = math.nan
    assert not_finite({"a": large, "b": torch.ones(2)}) == "1 of 6 are NaN or infinite, the first in a"


@pytest.mark.parametrize(
    "make", [lambda: MLP((2,), features=8, blocks=1), lambda: UNet((1, 8, 8), channels=(8,), blocks=1)]
)
def test_a_model_in_half_precision_has_samples_and_a_file(make, tmp_path):
    with seeded(0):
        net = awake(make())
    made = ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)), net.event_shape)
    wide = made.sample(seeds=range(4), steps=5)
    made.denoiser.to(torch.bfloat16)
    found = made.sample(seeds=range(4), steps=5)
    assert found.dtype == torch.float32
    assert float((found - wide).abs().mean()) < 0.1
    made.save(tmp_path)
    assert float((ScoreModel.load(tmp_path).sample(seeds=range(4), steps=5) - wide).abs().mean()) < 0.1
