"""Every objective, energies, noise scales and a process that is not Gaussian, by the command line."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scorefield import VE, Energy, ScoreModel, ScoreNetwork, TruncatedNormal
from scorefield.cli import main
from scorefield.data import Affine, ArrayDataset, digits, noise_scales, two_moons
from scorefield.training import Batches

pytestmark = pytest.mark.usefixtures("unchecked")

OBJECTIVES = {
    "exact": "--objective ImplicitScoreMatching",
    "sliced": "--objective SlicedScoreMatching --objective.projections 2 --objective.gaussian true",
    "one level": "--objective DenoisingScoreMatching --objective.density OneLevel --objective.density.sigma 0.5",
    "NCSN, sliced": "--objective SlicedScoreMatching --objective.states Perturbed --objective.states.density Levels",
    "likelihood": "--objective DenoisingScoreMatching --objective.weight LikelihoodWeight",
    "importance sampling": "--objective DenoisingScoreMatching --objective.density UniformLogSNR "
    "--objective.weight LikelihoodWeight",
    "adaptive": "--objective DenoisingScoreMatching --objective.density AdaptiveLogSNR "
    "--objective.weight LikelihoodWeight",
    "min-SNR": "--objective DenoisingScoreMatching --objective.weight MinSNRWeight",
    "path": "--objective PathTarget --objective.steps 40",
    "energy": "--energy true",
}
SHORT = "--data two_moons --steps 4 --batch_size 16 --device cpu --save_every 2"


def scorefield(command: str, *arguments: object) -> int:
    return main([*command.split(), *map(str, arguments)])


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_trains_and_resumes(name, tmp_path):
    """The model of two steps and two more is that of four, to the bit."""
    train = f"train {SHORT} {OBJECTIVES[name]} --optimisation.decay false"
    assert scorefield(train.replace("--steps 4", "--steps 2"), "--out", tmp_path / "half") == 0
    assert scorefield(train, "--out", tmp_path / "half", "--resume", "true") == 0
    assert scorefield(train, "--out", tmp_path / "whole") == 0
    models = [ScoreModel.load(tmp_path / run).denoiser for run in ("half", "whole")]
    weights, others = (model.state_dict() for model in models)
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert isinstance(models[0], Energy) == (name == "energy")


def test_noise_scales_come_from_the_data(tmp_path, capsys):
    assert scorefield(f"train {SHORT} --noise_scales true", "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    sde = ScoreModel.load(tmp_path / "run").denoiser.sde
    assert isinstance(sde, VE)
    assert "the largest distance between 4000 of 9000 samples" in said and "nats of the prior" in said
    data = two_moons()
    near = noise_scales(data, Affine.fitted(data))  # of all samples, the run's are nine tenths
    assert [sde.sigma_min, sde.sigma_max] == pytest.approx([near.sigma_min, near.sigma_max], rel=0.1)


@pytest.fixture
def bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example's process as a user's own module, and data in its domain."""
    source = Path(__file__).parents[2] / "examples" / "jacobi.py"
    (tmp_path / "bounded.py").write_text(source.read_text())
    x = 0.5 + 0.1 * np.random.default_rng(0).standard_normal((200, 2)).clip(-3, 3)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("bounded", None)


OWN = "--types [bounded.Jacobi]"


def test_a_process_of_your_own_that_is_not_gaussian(bounded, capsys):
    """Trained, saved, loaded, sampled by the SDE and in the units of its domain; what needs a kernel says so."""
    train = "train --data x.npy --sde bounded.Jacobi --sde.rate 4 --steps 5 --batch_size 128 --device cpu --out run"
    assert scorefield(train) == 0
    import bounded as mine

    model = ScoreModel.load("run", types=[mine.Jacobi])
    assert isinstance(model.denoiser, ScoreNetwork) and model.denoiser.sde == mine.Jacobi(rate=4.0)
    assert model.transform == Affine()
    assert model.denoiser.diffusion == pytest.approx(math.sqrt(4 / 18), rel=0.05)  # E x (1 - x) under Beta(4, 4)
    assert scorefield(f"sample run {OWN} --seeds 0-19 --steps 10 --out x.npz") == 0
    x = np.load("x.npz")["x"]
    assert x.shape == (20, 2) and 0 <= x.min() <= x.max() <= 1
    again = model.sample(seeds=range(20), steps=10, batch_size=64).numpy()
    assert np.array_equal(x, again)
    assert scorefield(f"sample run {OWN} --seeds 0-3 --solver Milstein --steps 5 --out y.npz") == 0
    assert scorefield(f"sample run {OWN} --seeds 0-3 --solver EulerMaruyama --grid quadratic --out z.npz") == 0
    capsys.readouterr()
    for command, message in {
        f"sample run {OWN} --tolerance 1e-3": "tolerance is for Gaussian processes",
        f"sample run {OWN} --grid karras": "take uniform or quadratic",
        f"sample run {OWN} --solver UniPC": "a denoiser exists only for a Gaussian process",
        f"likelihood run {OWN} --data x.npy": "likelihoods and encodings need a Gaussian process; got Jacobi",
        f"encode run {OWN} --data x.npy": "likelihoods and encodings need a Gaussian process; got Jacobi",
        "train --data x.npy --sde bounded.Jacobi --energy true --out new": "are for Gaussian processes",
        "train --data x.npy --sde bounded.Jacobi --objective DenoisingScoreMatching --out new": "whose p(x_t | x_0)",
        "train --data two_moons --sde VP --noise_scales true --out new": "leave --sde out",
        "train --data two_moons --energy true --compile true --out new": "train without compiling",
    }.items():
        assert scorefield(command) == 2, command
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_labels_reach_a_score_network(bounded):
    x = np.load("x.npy")
    np.savez("labelled.npz", x=x, labels=(x[:, 0] > 0.5).astype(np.int64))
    assert scorefield("train --data labelled.npz --sde bounded.Jacobi --steps 60 --device cpu --out run") == 0
    import bounded as mine

    model = ScoreModel.load("run", types=[mine.Jacobi])
    one, other = (model.sample(seeds=range(4), steps=5, label=k) for k in (0, 1))
    each = model.sample(seeds=range(4), steps=5, label=torch.tensor([0, 1, 0, 1]))
    assert not torch.equal(one, other)
    torch.testing.assert_close(each[0::2], one[0::2])
    torch.testing.assert_close(each[1::2], other[1::2])
    split = model.sample(seeds=range(4), steps=5, label=torch.tensor([0, 1, 0, 1]), batch_size=2)
    torch.testing.assert_close(split, each, rtol=1e-4, atol=1e-5)


def test_a_model_of_centres_has_its_likelihoods(tmp_path, capsys):
    """Trained without dequantisation noise, it is asked by truncated-normal noise and a decoder unless told not to."""
    run = tmp_path / "run"
    train = "train --data digits --centred true --steps 3 --net MLP --net.features 8 --batch_size 16 --device cpu"
    assert scorefield(train, "--out", run) == 0
    model = ScoreModel.load(run)
    knot = model.denoiser.sde.knots([model.denoiser.sde.t_min])[0]
    assert knot.sigma / knot.alpha == pytest.approx(0.4 * 2 / 17, rel=1e-6)
    x, common = digits().rows(torch.arange(3)).x, f"--data digits --limit 3 --out {tmp_path / 'l.csv'}"
    profile = model.noise_profile(x, centred=True, batch_size=64)
    for options, wanted in {
        "--steps 2": model.log_prob(x, steps=2, dequantisation=TruncatedNormal(), batch_size=64),
        "--steps 2 --centred false": model.log_prob(x, steps=2, batch_size=64),
        "--method bound": model.elbo(x, profile=profile, centred=True, batch_size=64),
    }.items():
        assert scorefield(f"likelihood {run} {common} {options}") == 0
        table = np.genfromtxt(tmp_path / "l.csv", delimiter=",", names=True)
        assert table["bits_per_dim"] == pytest.approx(wanted.bits_per_dim.numpy(), rel=1e-6)
    assert scorefield("train --data two_moons --centred true", "--out", tmp_path / "new") == 2
    assert "two_moons holds real numbers" in capsys.readouterr().err


def test_centred_batches_are_the_centres():
    data = ArrayDataset(torch.arange(8).reshape(8, 1).to(torch.uint8), levels=8)
    batch = Batches(data, Affine.of_levels(8), 8, seed=0, centred=True)[3]
    assert sorted(batch.x0[:, 0].tolist()) == pytest.approx([(k + 0.5) / 4 - 1 for k in range(8)], abs=1e-6)
