"""A device without float64, such as Apple's: what a model does works there, with the host's values, without waiting.

The device is a stand-in (see `helpers.device`) that refuses float64, and tensors of the host among its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.device import DEVICE, there, without_float64
from helpers.processes import PROCESSES, name
from torch import Tensor, nn

import scorefield as sf
from scorefield import guidance, objectives, operators, posterior, solvers
from scorefield._device import double
from scorefield.data import Affine, ArrayDataset
from scorefield.latents import slerp
from scorefield.likelihood import Hutchinson, TruncatedNormal
from scorefield.nn import MLP, MLPClassifier, Potential, seeded
from scorefield.operators.precision import in_any_precision
from scorefield.operators.svd import SVD
from scorefield.processes import StationaryPrior
from scorefield.score import (
    DDPMPrecond,
    NCSNPrecond,
    NoisyClassifier,
    Precond,
    ScoreModule,
    ScoreNetwork,
    TimePrecond,
    VEPrecond,
    VPPrecond,
)
from scorefield.training import Batches, TrainState, train, validation_loss

pytestmark = pytest.mark.usefixtures("unchecked")
Run = Callable[[torch.device], Tensor]
PRECONDS: list[Precond] = [
    sf.EDMPrecond(0.5),
    sf.NoisePrecond(),
    sf.ScorePrecond(),
    TimePrecond(),
    sf.VelocityPrecond(),
    VPPrecond(),
    VEPrecond(),
    NCSNPrecond(0.01, 50.0, 10),
    DDPMPrecond(),
]
LINEAR = sf.LinearSDE(lambda t: -2 * t, lambda t: 1 + t)
TIMES = torch.tensor([0.01, 0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
MATRIX = operators.Dense(torch.tensor([[1.0, 0.3, -0.5], [0.2, -1.0, 0.7]], dtype=torch.float64))
Y, LABELS = torch.tensor([[0.3, -0.2]]), torch.tensor([0, 1, 2, 3, 1])


def normals(*shape: int, draw: int = 0) -> Tensor:
    return sf.Noise.per_sample([7]).normal(torch.empty(1, *shape), draw)[0]


X = normals(5, 3)


def awake(net: nn.Module) -> Any:
    """With numbers where networks begin with zeros."""
    for k, p in enumerate(net.parameters()):
        if not bool(p.any()):
            p.data.copy_(0.3 * normals(p.numel(), draw=k % 16).reshape(p.shape))
    return net


def mlp(classes: int = 0) -> MLP:
    with seeded(0):
        net = MLP((3,), classes, features=16, blocks=1)
    return awake(net)


def model(
    device: torch.device, precond: Precond = PRECONDS[0], sde: sf.GaussianSDE | None = None, classes: int = 0
) -> sf.Preconditioned:
    return sf.Preconditioned(mlp(classes), sde or sf.VP(), precond).to(device)


def energy(device: torch.device) -> sf.Energy:
    with seeded(0):
        net = MLP((3,), features=16, blocks=1)
    return sf.Energy(Potential(awake(net)), sf.VP(), PRECONDS[0]).to(device)


def classifier(device: torch.device) -> NoisyClassifier:
    with seeded(0):
        net = MLPClassifier((3,), 4, features=16)
    return NoisyClassifier(awake(net), sf.VP(), 0.5).to(device)


def mixture(device: torch.device) -> sf.GaussianMixture:
    root = normals(2, 3, 3)
    made = sf.GaussianMixture(sf.VP(), torch.ones(2), normals(2, 3, draw=1), 0.2 * root @ root.mT + 0.1)
    return made.float().to(device)


def agrees(run: Run, tolerance: float = 1e-4) -> None:
    """Runs on the host and on the device, and compares the two."""
    wanted = run(torch.device("cpu")).detach()
    with without_float64():
        got = run(DEVICE).detach()
        got = got.cpu() if got.device == DEVICE else got
    assert bool(wanted.isfinite().all()) and float(wanted.double().std()) > 0
    torch.testing.assert_close(got.double(), wanted.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("precond", "sde"),
    [*((p, sf.SubVP()) for p in PRECONDS), *((PRECONDS[0], s) for s in [*PROCESSES, LINEAR])],
    ids=lambda part: str(part) if isinstance(part, Precond) else name(part),
)
def test_the_views_of_every_preconditioner_on_every_process(sde, precond):
    def run(device: torch.device) -> Tensor:
        one, x = model(device, precond, sde), X.to(device)
        views = (one, one.score, one.noise, one.velocity)
        found = torch.stack([view(x, t) for view in views for t in (TIMES, TIMES[2])])
        return found / found.abs().amax((1, 2), keepdim=True)

    agrees(run)


@pytest.mark.parametrize("sde", [*PROCESSES, LINEAR], ids=name)
def test_processes_move_states(sde):
    def run(device: torch.device) -> Tensor:
        x, eps = X.to(device), normals(5, 3, draw=1).to(device)
        noise = sf.Noise.per_sample(range(5), device)
        path = sde.simulate(x, [0.0, 0.3 * sde.T, 0.5 * sde.T], noise=noise)
        kernel = sde.perturb(x, TIMES, eps)
        return torch.stack((*path, kernel, sde.drift(x, TIMES), sde.diffusion(x, TIMES).expand(5, 3))) / 10

    agrees(run)


GUIDED: dict[str, Callable[[torch.device], ScoreModule]] = {
    "label": lambda d: model(d, classes=4).given(label=LABELS),
    "free": lambda d: guidance.ClassifierFree(model(d, classes=4).given(label=1), model(d, classes=4), 2.0, (0.1, 2.0)),
    "classifier": lambda d: guidance.Classifier(model(d), classifier(d), LABELS % 4, 1.5),
    "energy": energy,
    "mixture": mixture,
    "score": lambda d: ScoreNetwork(mlp(), sf.VP()).to(d),
    **{
        way.__name__: lambda d, way=way: way(model(d), MATRIX, Y, operators.Gaussian(0.1))
        for way in (guidance.MomentMatching, guidance.PiGDM, guidance.DPS, guidance.DiffPIR, guidance.ScoreALD)
    },
}


@pytest.mark.parametrize("kind", GUIDED)
def test_models_of_every_kind_are_scored_and_sampled(kind):
    solver, times = sf.default(sf.VP(), 4)

    def run(device: torch.device) -> Tensor:
        made = GUIDED[kind](device)
        return torch.cat((made.score(X.to(device), TIMES), sf.sample(made, (3,), times, solver, seeds=range(5))))

    agrees(run, 1e-3)


SOLVERS = [
    solvers.EulerMaruyama(),
    solvers.Milstein(),
    solvers.Heun(),
    solvers.DEIS(),
    solvers.RK4(),
    solvers.SRA1(),
    solvers.UniPC(),
    solvers.Ancestral(),
    solvers.Churn(),
    solvers.Restart(),
    solvers.PredictorCorrector(solvers.DDIM(), solvers.Langevin()),
    solvers.PredictorCorrector(solvers.DDIM(), solvers.HMC(steps=2)),
    solvers.BogackiShampine(1e-2),
    solvers.AdaptiveSDE(0.5),
    solvers.SciPyODE(rtol=0.1, atol=0.1),
    guidance.DDRM(MATRIX, Y, operators.Gaussian(0.1)),
    guidance.Replacement(MATRIX, Y, operators.Gaussian(0.1)),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: repr(s)[:40])
def test_solvers_take_their_steps(solver):
    times = [0.1, 0.01, 0.0] if solver.adaptive else [0.2, 0.1, 0.04, 0.005, 0.0]

    def run(device: torch.device) -> Tensor:
        start = (X[:2].to(device), times[0])
        return sf.sample(model(device), (3,), times, solver, seeds=range(2), start=start)

    agrees(run, 1e-3)


LAZY = sf.ItoSDE(lambda x, t: -x, lambda x, t: 1 + 0 * t, terminal=sf.NormalPrior(0.7))
BENT = sf.ItoSDE(
    lambda x, t: -x,
    lambda x, t: 1 + x**2 / (1 + x**2),
    terminal=StationaryPrior(lambda x: -x, lambda x: 1 + x**2 / (1 + x**2), (-8.0, 8.0)),
)
TRAINED: dict[str, Callable[[torch.device], tuple[nn.Module, Any]]] = {
    "EDM": lambda d: (model(d), objectives.DenoisingScoreMatching.edm(0.5)),
    "learnt density": lambda d: (
        model(d),
        objectives.DenoisingScoreMatching(objectives.AdaptiveLogSNR(), objectives.LikelihoodWeight()),
    ),
    "levels": lambda d: (model(d), objectives.DenoisingScoreMatching(objectives.Levels(4))),
    "sliced": lambda d: (model(d), objectives.SlicedScoreMatching()),
    "score": lambda d: (ScoreNetwork(mlp(), LINEAR).to(d), objectives.DenoisingScoreMatching()),
    "path": lambda d: (ScoreNetwork(mlp(), LAZY).to(d), objectives.PathTarget(8)),
    "path, bent": lambda d: (ScoreNetwork(mlp(), BENT).to(d), objectives.PathTarget(8)),
    "simulated": lambda d: (ScoreNetwork(mlp(), BENT).to(d), objectives.SlicedScoreMatching(objectives.Simulated(8))),
    "labels": lambda d: (model(d, classes=4), objectives.LabelDropout(rate=0.5)),
    "classifier": lambda d: (classifier(d), objectives.CrossEntropy()),
}


def training(device: torch.device, kind: str, levels: int | None = None) -> tuple[TrainState, Batches, Any]:
    trained, objective = TRAINED[kind](device)
    rows = normals(48, 3) if levels is None else (4 * normals(48, 3) + 8).clamp(0, 15).to(torch.uint8)
    data = ArrayDataset(rows, torch.arange(48) % 4 if kind in ("labels", "classifier") else None)
    transform = Affine() if levels is None else Affine.of_levels(levels)
    return TrainState(trained, seed=0), Batches(data, transform, 8, seed=0, device=device), objective


@pytest.mark.parametrize(("kind", "levels"), [*((kind, None) for kind in TRAINED), ("EDM", 16)])
def test_objectives_are_trained(kind, levels):
    def run(device: torch.device) -> Tensor:
        state, batches, objective = training(device, kind, levels)
        losses = [float(info.loss) for info in train(state, batches, objective, steps=1)]
        return torch.tensor([*losses, validation_loss(state, batches, objective, count=1)])

    agrees(run, 1e-3)


X0 = 0.5 * normals(6, 3)
ASKED: dict[str, Run] = {
    "log_prob": lambda d: sf.log_prob(model(d), X0.to(d), steps=2).nats,
    "truncation": lambda d: sf.log_prob(model(d), X0.to(d), steps=1).truncation,
    "to a tolerance": lambda d: sf.log_prob(model(d), X0.to(d), tolerance=0.1, divergence=Hutchinson(2)).nats,
    "elbo": lambda d: sf.elbo(model(d), X0.to(d), draws=8).nats,
    "encode": lambda d: sf.encode(model(d), X0.to(d), tolerance=0.1),
    "decode": lambda d: sf.decode(model(d), X0.to(d), steps=4),
    "density of an energy": lambda d: energy(d).log_density(X.to(d), TIMES),
    "density of a mixture": lambda d: torch.stack(
        (mixture(d).log_prob(X.to(d), TIMES), mixture(d).divergence(X.to(d), TIMES))
    ),
    "mixture's law": lambda d: mixture(d).marginal(0.3).sample(X.to(d), sf.Noise.per_sample(range(5), d)),
    "kl_bound": lambda d: objectives.kl_bound(model(d), mixture(d), X0.to(d), noise=sf.Noise.per_batch(0, 6, device=d)),
    "stationary law": lambda d: torch.stack(
        (BENT.prior.log_prob(X.to(d)), BENT.prior.sample(X.to(d), sf.Noise.per_sample(range(5), d)).sum(1))
    ),
    "latents": lambda d: slerp(X.to(d), X.flip(0).to(d), 0.3),
    "split Gibbs": lambda d: posterior.SplitGibbs(
        model(d), MATRIX, Y.abs(), operators.Poisson(0.1, 1.0), rounds=2, steps=2, langevin_steps=2
    ).sample((3,), seeds=range(4)),
    "particles": lambda d: posterior.TwistedSMC(model(d), MATRIX, Y, operators.Gaussian(0.5), count=8, steps=3).sample(
        (3,), seeds=range(4)
    ),
}


@pytest.mark.parametrize("what", ASKED)
def test_likelihoods_and_laws(what):
    agrees(ASKED[what], 2e-3)


@pytest.mark.filterwarnings("ignore:.*samples mean nothing")  # of a network that has learnt nothing
@pytest.mark.parametrize("transform", [Affine(0.1, 2.0), Affine.of_levels(16), Affine(5000.0, 1.0)], ids=str)
def test_a_whole_model_in_the_units_of_its_data(transform):
    rows = transform.inverse(0.3 * normals(2, 3))

    def run(device: torch.device) -> Tensor:
        whole = sf.ScoreModel(model(device), (3,), transform)
        x = rows if rows.dtype == torch.float64 else rows.to(device)
        options = {"dequantisation": TruncatedNormal()} if transform.levels else {}
        nats = whole.log_prob(x, steps=1, **options).nats, whole.elbo(rows, draws=8, centred=bool(options)).nats
        guided = guidance.PiGDM(
            whole.given(), *whole.measured(MATRIX, MATRIX.A(rows[:1].float()), operators.Gaussian(0.5))
        )
        drawn = whole.sample(seeds=range(2), steps=2), whole.guided(guided).sample(seeds=range(2), steps=2)
        score = whole.score(x, 0.3)
        return torch.cat([v.cpu().double().reshape(2, -1) for v in (*nats, *drawn, score)], 1)

    agrees(run, 2e-3)


@pytest.mark.parametrize("kind", ["label", "free", "classifier", "energy", "score"])
def test_sampling_waits_for_the_device_once(kind):
    """To look whether the samples are finite. A time read from the device would stop the host at each call."""
    solver, times = sf.default(sf.VP(), 5)
    with without_float64() as waits:
        sf.sample(GUIDED[kind](DEVICE), (3,), times, solver, seeds=range(5))
        assert len(waits) == 1


@pytest.mark.parametrize("kind", ["EDM", "levels", "sliced", "score", "labels", "classifier"])
def test_a_step_of_training_never_waits_for_the_device(kind):
    with without_float64() as waits:
        steps = train(*training(DEVICE, kind), steps=3)
        next(steps)
        waits.clear()
        next(steps)
        assert waits == []


def test_a_time_on_the_device_is_fetched():
    def run(device: torch.device) -> Tensor:
        return model(device)(X.to(device), TIMES.float().to(device))

    agrees(run)
    with without_float64():
        fetched = double(there(TIMES.float()))
    assert fetched.device.type == "cpu" and torch.equal(fetched, TIMES.float().double())


def test_tensors_without_values_give_their_shapes():
    """On torch's own `meta`, without a stand-in: no float64 there, and no value is asked for."""
    x, t = torch.empty(4, 3, device="meta"), torch.empty(4, device="meta")
    made = model(DEVICE)
    for view in (made, made.score, made.noise, made.velocity):
        assert view(x, t).shape == x.shape and view(x, t).dtype == torch.float32


def test_the_stand_in_has_no_float64_and_does_not_mix():
    with without_float64():
        x = X.to(DEVICE)
        for wrong in (
            lambda: x.double(),
            lambda: TIMES.to(DEVICE),
            lambda: torch.zeros(3, dtype=torch.float64, device=DEVICE),
            lambda: torch.tensor([1.0], dtype=torch.float64, device=DEVICE),
        ):
            with pytest.raises(TypeError, match="float64"):
                wrong()
        with pytest.raises(RuntimeError, match="host and of the device"):
            x + X
        with pytest.raises(RuntimeError, match="memory"):
            X.to(DEVICE, non_blocking=True)
        assert torch.equal((2 * x + torch.tensor(1.0)).cpu(), 2 * X + 1)


def test_uniform_numbers_are_words_rounded_once():
    """In every precision (word + 1/2) / 2^32 to the nearest; adding 1/2 in float32 would round twice."""
    noise = sf.Noise.per_sample(range(3))
    words = noise.words(4000)[0]
    exact = (words.double() + 0.5) * 2.0**-32
    for dtype in (torch.float64, torch.float32):
        assert torch.equal(noise.uniform(torch.empty(3, 4000, dtype=dtype)), exact.to(dtype))
    assert not torch.equal((words.float() + 0.5) * 2.0**-32, exact.float())


def test_an_operator_on_the_device_is_decomposed_there():
    def run(device: torch.device) -> Tensor:
        found = SVD(copy.deepcopy(MATRIX).float().to(device), (3,), torch.float32)
        return found.synthesis(found.values.to(device, torch.float32) * found.coordinates(X.to(device)))

    agrees(run)


def test_what_an_operator_of_others_says_is_said():
    """Not that the device has no float64, in which it is tried as well."""

    def fails(v: Tensor) -> Tensor:
        raise RuntimeError(f"wanted 7 numbers; got {v.shape[1]}")

    with without_float64(), pytest.raises(RuntimeError, match="wanted 7 numbers"):
        in_any_precision(fails, X.to(DEVICE))
