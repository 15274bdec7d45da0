"""Measurements in the data's units are those of the model's space, and what cannot be is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefield import VP, EDMPrecond, Noise, Preconditioned, ScoreModel, gaussian
from scorefield.data import Affine
from scorefield.guidance import MomentMatching, PiGDM
from scorefield.nn import MLP, seeded
from scorefield.operators import Clip, Dense, FourierMask, Gaussian, Identity, Mask, Noiseless, Poisson

SHAPE = (1, 4, 4)
MATRIX = Noise.per_sample([3]).normal(torch.zeros(1, 6, 16, dtype=torch.float64))[0]


def model(transform: Affine, shape: tuple[int, ...] = SHAPE) -> ScoreModel:
    with seeded(0):
        net = MLP(shape, features=8, blocks=1)
    return ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)).double(), shape, transform)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=torch.float64))[0]


TRANSFORMS = {
    "real": Affine(3.0, 5.0),
    "integers": Affine.of_levels(256),
    "features": Affine(0.5, (((1.0, 2.0, 3.0, 4.0),),)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_residual_is_the_datas(name):
    """y - A(x) in units of the noise does not depend on the space; x is the middle of an integer's cell."""
    transform, a, y, noise = TRANSFORMS[name], Dense(MATRIX, SHAPE), 30 * normal(1, 6, seed=1), Gaussian(2.0)
    known = model(transform).measured(a, y, noise)
    z = normal(3, *SHAPE, seed=2)
    shift, scale = transform.line(z)
    x = scale * z + shift
    wanted = (y - a.A(x)) / 2.0
    found = (known.y - known.operator.A(z)) / known.noise.std
    torch.testing.assert_close(found, wanted)
    if name == "integers":
        u = torch.full(SHAPE, 0.5, dtype=torch.float64)
        torch.testing.assert_close(
            transform.forward(torch.full((1, *SHAPE), 7), u[None]).double(),
            (7 - shift) / scale * torch.ones(1, *SHAPE, dtype=torch.float64),
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_clips_nothing_measures_as_what_it_clips(name):
    """Methods depend on the operator's scale: one that is not linear has that of a linear one."""
    a, y, z = Dense(MATRIX, SHAPE), 30 * normal(1, 6, seed=1), normal(2, *SHAPE)
    known, clipped = (model(TRANSFORMS[name]).measured(o, y, Gaussian(2.0)) for o in (a, Clip(-1e9, 1e9, a)))
    torch.testing.assert_close(clipped.operator.A(z), known.operator.A(z))
    torch.testing.assert_close(clipped.y, known.y)
    assert clipped.noise == known.noise


def test_an_operator_that_is_not_linear_acts_on_data():
    transform = TRANSFORMS["integers"]
    clip = Clip(0.0, 100.0, Mask(torch.ones(SHAPE, dtype=torch.bool)))
    y, z = 50 * torch.ones(1, 16, dtype=torch.float64), normal(2, *SHAPE)
    known = model(transform).measured(clip, y, Gaussian(1.0))
    shift, scale = transform.line(z)
    found = (known.y - known.operator.A(z)) / known.noise.std
    torch.testing.assert_close(found, y - clip.A(scale * z + shift))


def test_a_row_for_each_sample():
    for operator in (Dense(MATRIX, SHAPE), FourierMask(torch.ones(4, 4, dtype=torch.bool))):
        y = operator.A(50 * normal(3, *SHAPE))
        known = model(TRANSFORMS["integers"]).measured(operator, y, Gaussian(2.0))
        assert known.y.shape == y.shape
        one = model(TRANSFORMS["integers"]).measured(operator, y[1], Gaussian(2.0))
        torch.testing.assert_close(known.y[1:2], one.y)


class Twice(Dense):
    """With an adjoint that is too large."""

    def A_adjoint(self, y: Tensor) -> Tensor:
        return 2 * super().A_adjoint(y)


def test_counts_keep_their_law():
    """Poisson's likelihood of two clean samples differs by the same in both spaces."""
    transform, a = TRANSFORMS["integers"], Identity()
    noise = Poisson(2.0)
    y = 2.0 * torch.arange(16, dtype=torch.float64).reshape(1, *SHAPE)
    known = model(transform).measured(a, y, noise)
    z = 0.2 * normal(2, *SHAPE)
    shift, scale = transform.line(z)
    there = noise.log_likelihood(y, scale * z + shift)
    here = known.noise.log_likelihood(known.y, known.operator.A(z))
    torch.testing.assert_close(here[0] - here[1], there[0] - there[1])
    torch.testing.assert_close(known.noise.variance(known.y), noise.variance(y) / scale**2)


def test_a_guided_model_samples_in_the_datas_units():
    """A normal prior of data around 100 with standard deviation 20; the posterior's mean is known."""
    transform = Affine(100.0, 20.0)
    prior = ScoreModel(gaussian(VP(), torch.zeros(2), torch.ones(())), (2,), transform)
    a, y = Dense(torch.tensor([[1.0, 0.0]]).double()), torch.tensor([130.0])
    guided = prior.guided(MomentMatching(prior.given(), *prior.measured(a, y, Gaussian(20.0))))
    x = guided.sample(seeds=range(2000), steps=20)
    assert abs(float(x[:, 0].mean()) - 115) < 5 * 20 / (2 * 2000) ** 0.5
    assert abs(float(x[:, 1].mean()) - 100) < 5 * 20 / 2000**0.5
    assert abs(float(x[:, 0].std()) / (20 / 2**0.5) - 1) < 5 / (2 * 2000) ** 0.5


def test_a_sample_of_counts_does_not_depend_on_the_other_counts():
    """The grid goes down to the noise of y: to what it is at least, not to that of the darkest batch-mate."""
    prior = ScoreModel(gaussian(VP(), torch.zeros(1, 2, 2), torch.ones(())), (1, 2, 2), Affine(100.0, 20.0))
    counts = torch.stack([torch.full((1, 2, 2), n, dtype=torch.float64) for n in (130.0, 90.0, 1.0)])

    def drawn(y: Tensor, seeds: range) -> Tensor:
        known = prior.measured(Identity(), y, Poisson(0.1))
        return prior.guided(PiGDM(prior.given(), *known)).sample(seeds=seeds, steps=10)

    together = drawn(counts, range(3))
    for k in range(3):
        torch.testing.assert_close(drawn(counts[k : k + 1], range(k, k + 1))[0], together[k], rtol=1e-5, atol=1e-3)


def test_noise_brings_y_farther_from_the_data():
    y = torch.full((1, *SHAPE), 30.0)
    assert model(Affine()).measured(Identity(), y, Gaussian(10.0)).y.shape == (1, *SHAPE)
    for noise in (Noiseless(), Gaussian(0.1), Poisson(0.01)):
        with pytest.raises(ValueError, match="times as far from the middle"):
            model(Affine()).measured(Identity(), y, noise)


BAD = [
    (Identity(), 255 * torch.ones(3, 3), "measures real numbers of shape \\(1, 4, 4\\) of a sample; got real"),
    (Identity(), torch.ones(1, *SHAPE, dtype=torch.complex128), "got complex ones"),
    (Identity(), torch.ones(0, *SHAPE), r"got real ones of shape \(0, 1, 4, 4\)"),
    (FourierMask(torch.ones(4, 4, dtype=torch.bool)), torch.ones(1, 1, 16), "measures complex numbers"),
    (Identity(), 1e6 * torch.ones(1, *SHAPE), "times as far from the middle"),
    (Identity(), torch.full((1, *SHAPE), torch.nan), "nan times as far"),
    (Twice(MATRIX, SHAPE), torch.ones(1, 6), "A_adjoint of Twice is not the adjoint of A"),
]


@pytest.mark.parametrize(("operator", "y", "message"), BAD, ids=[m for *_, m in BAD])
def test_measurements_that_cannot_be(operator, y, message):
    with pytest.raises(ValueError, match=message):
        model(TRANSFORMS["integers"]).measured(operator, y, Noiseless())
