"""What users give: what is meant without a doubt is taken as the strict form is, the rest is refused in a line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import scorefield as sf
from scorefield import grids, solvers
from scorefield.data import ArrayDataset
from scorefield.model import ScoreModel
from scorefield.operators import Dense, Diagonal, Gaussian, Mask

# what is given here is what the checker of the tests refuses before the library is asked
pytestmark = pytest.mark.usefixtures("unchecked")

X = torch.tensor([[1.0, 2.0], [-3.0, 0.0], [0.0, 1.0]])
WHOLE = X.long()
HALF_TIME = torch.tensor(0.5, dtype=torch.float64)
MEAN = torch.tensor([[0.3, -0.4]])
KEYS = torch.tensor([4, 9])
STEPS, TIMES = 4, grids.uniform_log_snr(sf.VP(), 4)
NAN = float("nan")


def network(**options: Any) -> sf.nn.MLP:
    with sf.nn.seeded(0):
        net = sf.nn.MLP((2,), features=16, blocks=1, **options)
        torch.nn.init.normal_(net.out.weight, std=0.2)
    return net


def network_of(event_shape: Any) -> Tensor:
    with sf.nn.seeded(0):
        return torch.cat([weight.flatten() for weight in sf.nn.MLP(event_shape, features=8).parameters()])


def denoiser(net: torch.nn.Module) -> sf.Preconditioned:
    return sf.Preconditioned(net, sf.VP(), sf.EDMPrecond(1.0)).requires_grad_(False)


with sf.nn.seeded(0):
    PICTURES = sf.nn.UNet((1, 8, 8), channels=(8,), blocks=1)
MIXTURE = sf.gaussian(sf.VP(), MEAN[0], torch.tensor([0.5, 2.0]))
LABELLED = denoiser(network(classes=3))
MODEL = ScoreModel(LABELLED, (2,), classes=3, class_names=("cat", "dog", "horse"))
WARM = ScoreModel(denoiser(network(cond_features=1)), (2,), cond_transform=sf.data.Affine((20.0,), (10.0,)))
WARMTH = torch.tensor([[25.0], [12.0]])


def walked(steps: Any) -> Tensor:
    noise = sf.Noise.per_sample(range(3))
    return sf.chain(MIXTURE, X, 0.5, solvers.Langevin(0.1), steps, noise=noise)


def fitted(data: Any, **options: Any) -> Tensor:
    model = sf.fit(network(), data, **({"steps": 2, "seed": 0, "batch_size": 2} | options))
    return model.sample(seeds=[1], steps=2)


TAKEN: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    # times
    "a float as a time": (lambda: LABELLED.score(X, 0.5), lambda: LABELLED.score(X, HALF_TIME)),
    "a float as a time of a denoiser": (lambda: LABELLED(X, 0.5), lambda: LABELLED(X, HALF_TIME)),
    "a float as a time of a velocity": (lambda: MIXTURE.velocity(X, 0.5), lambda: MIXTURE.velocity(X, HALF_TIME)),
    "a float as a time of a density": (lambda: MIXTURE.log_prob(X, 0.5), lambda: MIXTURE.log_prob(X, HALF_TIME)),
    "an array of times": (
        lambda: LABELLED.noise(X, np.array([0.1, 0.5, 1.0])),
        lambda: LABELLED.noise(X, torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)),
    ),
    "a float as a time of a process": (lambda: sf.VP().alpha(0.5), lambda: sf.VP().alpha(HALF_TIME)),
    "a float as a time of another": (lambda: sf.EDM().g(3), lambda: sf.EDM().g(torch.tensor(3.0, dtype=torch.float64))),
    "a float as a log-SNR": (
        lambda: sf.SubVP().time(0.5),
        lambda: sf.SubVP().time(torch.tensor(0.5, dtype=torch.float64)),
    ),
    "a float as a time of a kernel": (lambda: sf.VP().perturb(X, 0.5, X), lambda: sf.VP().perturb(X, HALF_TIME, X)),
    "a float as a time of a drift": (lambda: sf.VP().drift(X, 0.5), lambda: sf.VP().drift(X, HALF_TIME)),
    "a tensor as times of samples": (
        lambda: MODEL.sample(seeds=KEYS, times=np.array(TIMES)),
        lambda: MODEL.sample(seeds=KEYS, times=TIMES),
    ),
    # states
    "integers as states of a score": (lambda: MODEL.score(WHOLE, 0.5), lambda: MODEL.score(X, HALF_TIME)),
    "integers as states of a denoiser": (lambda: LABELLED(WHOLE, 0.5), lambda: LABELLED(X, 0.5)),
    "integers as data of a density": (lambda: MODEL.log_prob(WHOLE).nats, lambda: MODEL.log_prob(X).nats),
    "integers as data of a bound": (lambda: sf.elbo(LABELLED, WHOLE).nats, lambda: sf.elbo(LABELLED, X).nats),
    "integers as data of an encoding": (lambda: MODEL.encode(WHOLE, steps=5), lambda: MODEL.encode(X, steps=5)),
    "integers of a mixture": (lambda: sf.log_prob(MIXTURE, WHOLE).nats, lambda: sf.log_prob(MIXTURE, X.double()).nats),
    "an array as states": (lambda: MODEL.score(X.numpy(), 0.5), lambda: MODEL.score(X, HALF_TIME)),
    "an array of the other byte order": (
        lambda: sf.log_prob(LABELLED, X.numpy().astype(">f4")).nats,
        lambda: sf.log_prob(LABELLED, X).nats,
    ),
    "an array that runs backwards": (lambda: MODEL.score(X.numpy()[::-1], 0.5), lambda: MODEL.score(X.flip(0), 0.5)),
    "an array as latents": (lambda: sf.decode(LABELLED, X.numpy(), steps=5), lambda: sf.decode(LABELLED, X, steps=5)),
    "arrays of copies": (
        lambda: sf.elbo(LABELLED, [X.numpy()] * 4, draws=8).nats,
        lambda: sf.elbo(LABELLED, [X] * 4, draws=8).nats,
    ),
    "an array as a start": (
        lambda: sf.sample(LABELLED, (2,), TIMES, solvers.DDIM(), seeds=range(3), start=(X.numpy(), 1.0)),
        lambda: sf.sample(LABELLED, (2,), TIMES, solvers.DDIM(), seeds=range(3), start=(X, 1.0)),
    ),
    "arrays as a mixture": (
        lambda: sf.GaussianMixture(sf.VP(), np.ones(1), MEAN.numpy(), np.ones((1, 2))).score(X, 0.5),
        lambda: sf.GaussianMixture(sf.VP(), torch.ones(1), MEAN, torch.ones(1, 2)).score(X, 0.5),
    ),
    "arrays as ends of an arc": (
        lambda: sf.slerp(X.numpy(), X.numpy()[::-1], 0.5),
        lambda: sf.slerp(X, X.flip(0), 0.5),
    ),
    "an array for a distance": (
        lambda: sf.metrics.energy_distance(X.numpy(), WHOLE.numpy() + 1),
        lambda: sf.metrics.energy_distance(X, X + 1),
    ),
    "an array as data to train on": (lambda: fitted(X.numpy()), lambda: fitted(ArrayDataset(X))),
    "an array as a mask": (lambda: Mask(np.array([True, False])).A(X), lambda: Mask(torch.tensor([True, False])).A(X)),
    "an array as a matrix": (lambda: Dense(np.eye(2)).A(X), lambda: Dense(torch.eye(2)).A(X)),
    "an array as weights": (lambda: Diagonal(np.ones(2)).A(X), lambda: Diagonal(torch.ones(2)).A(X)),
    "an array as a measurement": (
        lambda: MODEL.measured(Mask(torch.tensor([True, False])), np.ones((1, 1)), Gaussian(0.1)).y,
        lambda: MODEL.measured(Mask(torch.tensor([True, False])), torch.ones(1, 1), Gaussian(0.1)).y,
    ),
    # seeds, steps, shapes
    "a number as one seed": (lambda: MODEL.sample(seeds=4), lambda: MODEL.sample(seeds=[4])),
    "a NumPy number as one seed": (lambda: MODEL.sample(seeds=np.int64(4)), lambda: MODEL.sample(seeds=[4])),
    "a tensor () as one seed": (lambda: MODEL.sample(seeds=torch.tensor(4)), lambda: MODEL.sample(seeds=[4])),
    "an array of seeds": (lambda: MODEL.sample(seeds=KEYS.numpy()), lambda: MODEL.sample(seeds=KEYS)),
    "unsigned seeds": (
        lambda: MODEL.sample(seeds=np.array([2**64 - 1], np.uint64)),
        lambda: MODEL.sample(seeds=[-1]),
    ),
    "a number as a seed of noise": (
        lambda: sf.Noise.per_sample(4).normal(X[:1]),
        lambda: sf.Noise.per_sample([4]).normal(X[:1]),
    ),
    "whole floats as steps": (lambda: MODEL.sample(seeds=4, steps=2.0), lambda: MODEL.sample(seeds=4, steps=2)),
    "NumPy's steps": (lambda: MODEL.encode(X, steps=np.int32(3)), lambda: MODEL.encode(X, steps=3)),
    "whole floats as steps of a chain": (lambda: walked(2.0), lambda: walked(2)),
    "whole floats as steps of a grid": (lambda: grids.karras(sf.EDM(), 5.0), lambda: grids.karras(sf.EDM(), 5)),
    "whole floats as a batch": (
        lambda: MODEL.sample(seeds=range(3), batch_size=2.0),
        lambda: MODEL.sample(seeds=range(3), batch_size=2),
    ),
    "whole floats as steps of training": (lambda: fitted(X, steps=2.0), lambda: fitted(X, steps=2)),
    "a number as a shape": (
        lambda: sf.sample(LABELLED, 2, TIMES, solvers.DDIM(), seeds=KEYS),
        lambda: sf.sample(LABELLED, (2,), TIMES, solvers.DDIM(), seeds=KEYS),
    ),
    "a number as the shape of a network": (lambda: network_of(2), lambda: network_of((2,))),
    "a NumPy shape": (
        lambda: ScoreModel(LABELLED, np.array([2]), classes=3).sample(seeds=4),
        lambda: MODEL.sample(seeds=4),
    ),
    # conditions
    "a class by its name": (lambda: MODEL.sample(seeds=4, label="dog"), lambda: MODEL.sample(seeds=4, label=1)),
    "classes by their names": (
        lambda: MODEL.log_prob(X, label=["horse", "cat", "dog"]).nats,
        lambda: MODEL.log_prob(X, label=torch.tensor([2, 0, 1])).nats,
    ),
    "names in an array": (
        lambda: MODEL.score(X, 0.5, label=np.array(["horse", "cat", "dog"])),
        lambda: MODEL.score(X, 0.5, label=torch.tensor([2, 0, 1])),
    ),
    "a list of labels": (
        lambda: MODEL.sample(seeds=KEYS, label=[2, 0]),
        lambda: MODEL.sample(seeds=KEYS, label=torch.tensor([2, 0])),
    ),
    "a list of labels of a denoiser": (
        lambda: LABELLED.score(X, 0.5, label=[2, 0, 1]),
        lambda: LABELLED.score(X, 0.5, label=torch.tensor([2, 0, 1])),
    ),
    "a list of conditions": (
        lambda: WARM.sample(seeds=KEYS, cond=[[25], [12]]),
        lambda: WARM.sample(seeds=KEYS, cond=WARMTH),
    ),
    "conditions in float64": (
        lambda: WARM.denoiser.score(X[:2], 0.5, cond=WARMTH.double()),
        lambda: WARM.denoiser.score(X[:2], 0.5, cond=WARMTH),
    ),
    "data with arrays of labels and conditions": (
        lambda: torch.cat(
            list(ArrayDataset(X.numpy(), [0, 2, 1], np.array([[1], [2], [3]])).rows(KEYS // 9).cond.values())[1:]
        ),
        lambda: torch.tensor([[1.0], [2.0]]),
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_meant_is_taken_as_its_strict_form(name):
    given, strict = TAKEN[name]
    found, wanted = torch.as_tensor(given()), torch.as_tensor(strict())
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


class OfShape:
    """A score that is of another shape than its states, which would be broadcast."""

    def __init__(self, form: Callable[[Tensor], Tensor]) -> None:
        self.sde, self.form = sf.VP(), form

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        return self.form(-x)


class Narrow(sf.Denoiser):
    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return x[:, :1]


COLUMN, SCALAR = OfShape(lambda s: s[:, :1]), OfShape(torch.sum)
NOISE = sf.Noise.per_sample(range(3))
SILENT = sf.ItoSDE(f=lambda x, t: -x, g=lambda x, t: 0 * x)


def sampled(model: Any, solver: Any = None, **options: Any) -> Tensor:
    return sf.sample(model, (2,), TIMES, solver or solvers.DDIM(), seeds=range(3), **options)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    # times
    "t = 0": (lambda: MIXTURE.score(X, 0.0), r"\(0, 1\]; got 0"),
    "t = 0 of some": (lambda: LABELLED.score(X, torch.tensor([0.0, 0.1, 0.2])), r"\(0, 1\]; got 0 to 0.2"),
    "t = 0 of a model": (lambda: MODEL.score(X, 0), r"\(0, 1\]; got 0"),
    "t < 0": (lambda: LABELLED(X, -0.1), r"got -0.1"),
    "t < 0 of a density": (lambda: MIXTURE.log_prob(X, -0.1), r"got -0.1"),
    "t > T": (lambda: LABELLED.velocity(X, 1.5), r"\(0, 1\]; got 1.5"),
    "t > T of a score that is none of a Gaussian process": (
        lambda: sf.ScoreNetwork(network(), SILENT).score(X, 2.0),
        r"\(0, 1\]; got 2",
    ),
    "t is NaN": (lambda: LABELLED.predictions(X, NAN), "got nan"),
    "times of others": (lambda: LABELLED.score(X, torch.full((2,), 0.5)), r"\(3, 2\) and \(2,\)"),
    "NaN in a grid": (lambda: MODEL.sample(seeds=4, times=[1.0, NAN, 0.0]), "got nan"),
    "a start before the end": (lambda: sampled(MIXTURE, start=(X, 2.0)), "got 2.0"),
    # states
    "a NaN start": (lambda: sampled(MIXTURE, start=(X * NAN, 1.0)), "start holds 6 values that are not finite"),
    "a start of words": (lambda: sampled(MIXTURE, start=(np.array([["a"]]), 1.0)), "start must hold numbers"),
    "NaN latents": (lambda: MODEL.decode(X * NAN), "latent holds 6 values"),
    "NaN data": (lambda: MODEL.elbo(X * NAN), "x holds 6 values"),
    "a NaN mean": (lambda: sf.gaussian(sf.VP(), MEAN[0] * NAN, torch.eye(2)), "among the means"),
    "an infinite variance": (lambda: sf.gaussian(sf.VP(), MEAN[0], torch.tensor(math.inf)), "among the covariances"),
    "no axis of samples": (lambda: sf.log_prob(LABELLED, X[0]), r"x\[None\]"),
    "no axis of samples for a mixture": (lambda: MIXTURE.score(X[0], 0.5), r"x\[None\]"),
    "no axis of samples for a model": (lambda: MODEL.log_prob(X[0]), r"x\[None\]"),
    "no axis of samples for pictures": (
        lambda: PICTURES(torch.zeros(1, 8, 8), torch.zeros(())),
        r"x\[None\]",
    ),
    "a number": (lambda: sf.encode(LABELLED, torch.tensor(1.0)), "axis of samples"),
    "other events": (lambda: MIXTURE.noise(torch.zeros(3, 5), 0.5), r"\(2,\); got \(5,\)"),
    "complex states": (lambda: sf.log_prob(LABELLED, X + 0j), "two channels"),
    "words": (lambda: sf.log_prob(LABELLED, np.array(["a"])), "must hold numbers; got ndarray of dtype <U1"),
    # scores of other shapes
    "a score (b, 1) by the ODE": (lambda: sampled(COLUMN), r"OfShape returned shape \(3, 1\) .* \(3, 2\)"),
    "a score (b, 1) by the SDE": (lambda: sampled(COLUMN, solvers.EulerMaruyama()), r"returned shape \(3, 1\)"),
    "a score (b, 1) in a chain": (
        lambda: sf.chain(COLUMN, X, 0.5, solvers.Langevin(0.1), 2, noise=NOISE),
        r"returned shape \(3, 1\)",
    ),
    "a score (b, 1) by HMC": (lambda: sf.chain(COLUMN, X, 0.5, solvers.HMC(0.1), 2, noise=NOISE), r"shape \(3, 1\)"),
    "a score () in a likelihood": (lambda: sf.log_prob(SCALAR, X), r"returned shape \(\)"),
    "a score () between two points": (lambda: sf.log_density_ratio(SCALAR, X, X + 1, 0.5), r"returned shape \(\)"),
    "a denoiser (b, 1)": (lambda: sampled(Narrow(sf.VP())), r"Narrow returned shape \(3, 1\)"),
    # seeds, steps, shapes
    "fractions as seeds": (lambda: MODEL.sample(seeds=[0.2, 0.7]), "a seed must be a whole number; got 0.2"),
    "an array of floats as seeds": (lambda: MODEL.sample(seeds=np.array([1.5, 2.5])), "seeds must be integers"),
    "a fraction as the seed of a training": (lambda: fitted(X, seed=0.5), "a seed must be a whole number; got 0.5"),
    "truth as a seed": (lambda: MODEL.sample(seeds=True), "a seed must be a whole number; got True"),
    "a word as seeds": (lambda: sf.Noise.per_sample("ab"), "a seed must be a whole number; got 'a'"),
    "fractions of steps": (lambda: MODEL.sample(seeds=4, steps=2.5), "steps must be a whole number; got 2.5"),
    "fractions of steps of an ODE": (lambda: MODEL.log_prob(X, steps=2.5), "steps must be a whole number; got 2.5"),
    "fractions of draws": (lambda: MODEL.elbo(X, draws=8.5), "draws must be a whole number; got 8.5"),
    "no steps": (lambda: MODEL.sample(seeds=4, steps=0), "steps must be at least 1; got 0"),
    "steps without end": (lambda: grids.uniform(sf.VP(), math.inf), "steps must be a whole number; got inf"),
    "a fraction of a batch": (
        lambda: MODEL.sample(seeds=range(4), batch_size=1.5),
        "batch_size must be a whole number",
    ),
    "a fraction of a side": (lambda: sf.nn.MLP(2.5), "side of event_shape must be a whole"),
    "a side of 0": (lambda: sf.nn.MLP((0,)), "side of event_shape must be at least 1; got 0"),
    "pictures of two sides": (lambda: sf.nn.UNet(2), r"\(channels, \*space\).*got \(2,\)"),
    # conditions
    "a class that is none": (lambda: MODEL.sample(seeds=4, label="doge"), "no class doge: did you mean dog?"),
    "a name where there are none": (
        lambda: ScoreModel(LABELLED, (2,), classes=3).sample(seeds=4, label="cat"),
        "no class cat: the classes of this model have no names",
    ),
    "a fraction as a class": (lambda: MODEL.sample(seeds=4, label=0.5), "wanted integers from 0 to 2"),
    "a word as a condition": (lambda: WARM.sample(seeds=4, cond="hot"), "cond must hold numbers"),
    "NaN conditions": (lambda: WARM.sample(seeds=4, cond=[[NAN]]), "cond holds 1 values that are NaN"),
    # solvers
    "a class of solvers": (lambda: MODEL.sample(seeds=4, solver=solvers.DDIM), r"DDIM\(\); got the class DDIM"),
    "the name of a solver": (lambda: sampled(MIXTURE, "Heun"), r"such as solvers.DDIM\(\); got 'Heun'"),
    # processes without noise
    "g = 0": (lambda: sf.LinearSDE(lambda t: -t, lambda t: 0 * t).sigma(0.5), "wanted noise"),
    "g = 0 at first": (
        lambda: sf.LinearSDE(lambda t: -t, lambda t: (t > 0.5).double()).knots([0.2, 0.9]),
        "wanted noise at every time after 0",
    ),
    "g = 0 along a path": (
        lambda: sf.objectives.PathTarget(4)(sf.ScoreNetwork(network(), SILENT), X, noise=sf.Noise.per_batch(0, 3)),
        "a diffusion of 0 at t = 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_refused_in_a_line(name):
    given, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        given()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_networks_of_any_precision_sample_and_measure(dtype):
    net = network(classes=3)
    model = ScoreModel(denoiser(net.to(dtype)), (2,), classes=3)
    found = model.sample(seeds=range(3), label=1)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.allclose(
        found.float(), MODEL.sample(seeds=range(3), label=1), rtol=0, atol=20 * torch.finfo(dtype).eps + 1e-5
    )
    assert bool(model.log_prob(X).nats.isfinite().all())


def test_states_in_float64_keep_their_digits_beside_a_network_in_float32():
    net = network()
    x = X.double() * (1 + 1e-12)
    assert LABELLED.score(x, 0.5).dtype == torch.float64
    model, wide = denoiser(net), denoiser(network().double())
    error = (model.score(x, 1e-5) / wide.score(x, 1e-5) - 1).abs().max()
    assert float(error) < 1e-6


def test_networks_in_float64_train_and_sample():
    single = fitted(X.repeat(8, 1))
    double = sf.fit(network().double(), X.repeat(8, 1), steps=2, seed=0, batch_size=2)
    assert next(double.denoiser.parameters()).dtype == torch.float64
    assert torch.allclose(double.sample(seeds=[1], steps=2).float(), single, atol=1e-5)


def test_float64_by_default_trains_and_samples():
    torch.set_default_dtype(torch.float64)
    try:
        wide = fitted(X.double().repeat(8, 1))
    finally:
        torch.set_default_dtype(torch.float32)
    assert wide.dtype == torch.float64
    assert bool(wide.isfinite().all())
