"""The reported error of the ODE solver is at least the true one in 19 of 20 cases, and not absurdly larger."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from helpers.processes import name
from torch import Tensor

from scorefield import (
    EDM,
    VE,
    VP,
    Denoiser,
    GaussianMixture,
    GaussianSDE,
    Hutchinson,
    Noise,
    Rectified,
    SubVP,
    encode,
    gaussian,
    log_prob,
)
from scorefield.likelihood.flow import DENSITY, ends_of
from scorefield.likelihood.ode import LARGE
from scorefield.likelihood.solver_error import MULTIPLES, THIRD, local_error

PROCESSES = [VP(), VE(), SubVP(), EDM(), Rectified(T=0.999)]
SIZES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
Errors = tuple[Tensor, Tensor]  # estimated and true


def mixture(sde: GaussianSDE, d: int, size: float, components: int = 5) -> GaussianMixture:
    g = torch.Generator().manual_seed(d)
    means = size * torch.randn(components, d, generator=g, dtype=torch.float64)
    widths = size * (0.05 + 0.3 * torch.rand(components, generator=g, dtype=torch.float64))
    return GaussianMixture(sde, torch.ones(components), means, widths**2)


def photograph(sde: GaussianSDE, d: int, size: float) -> GaussianMixture:
    spectrum = 1 / torch.arange(1, d + 1, dtype=torch.float64) ** 2
    return gaussian(sde, torch.zeros(d), size**2 * spectrum / spectrum.mean())


def normal(sde: GaussianSDE, d: int, size: float) -> GaussianMixture:
    return gaussian(sde, torch.zeros(d), torch.tensor(size**2))


def data(model: GaussianMixture, n: int) -> Tensor:
    like = torch.empty(n, *model.event_shape, dtype=torch.float64)
    return model.marginal(0.0).sample(like, Noise.per_sample(range(n)))


def errors(model: GaussianMixture, x: Tensor, steps: int | None = None, tolerance: float | None = None) -> Errors:
    """With the exact law at T, so that the truth is known: signs give the trace of a diagonal Jacobian."""
    knot = model.sde.knots([model.sde.t_min])[0]
    exact = model.log_prob(knot.alpha * x.double(), knot.time) + x[0].numel() * math.log(knot.alpha)
    found = log_prob(model, x, steps=steps, tolerance=tolerance, prior=model.marginal(model.sde.T))
    assert found.solver_error is not None
    return found.solver_error, (found.nats - exact).abs()


def judged(every: list[Errors]) -> tuple[float, float]:
    """The share of errors that the estimates cover, and the median ratio; errors of less than 1e-9 count as covered."""
    estimated, true = (torch.cat(column) for column in zip(*every, strict=True))
    assert len(true) > 100
    seen = true > 1e-9
    return float((estimated >= true)[seen].double().mean()), float((estimated / true)[seen].median())


def test_it_covers_the_error_of_the_default_steps(unchecked: None) -> None:
    """97 % and 16 times are measured. Killed by errors of the state, of the trace or of the last step left out, by
    exponents of 1 in the place of 6/5 and 6/4."""
    models = [kind(sde, 2, size) for sde in PROCESSES[1::2] for size in SIZES[::2] for kind in (normal, mixture)]
    share, ratio = judged([errors(model, data(model, 10), steps=10) for model in models])
    assert share >= 0.95 and ratio < 25, (share, ratio)


@pytest.mark.slow
@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_it_covers_the_errors_of_a_long_table(sde: GaussianSDE, unchecked: None) -> None:
    """Sizes 0.01 to 100, 1 to 256 dimensions, 5 to 40 steps, tolerances, both precisions: 98 %, up to 40 times."""
    models = [
        kind(sde, d, size) for size in SIZES for kind, ds in ((normal, (1, 16)), (mixture, (1, 2, 8))) for d in ds
    ]
    wide = [photograph(sde, 256, size) for size in (0.1, 0.5, 1.0)]
    for dtype in (torch.float64, torch.float32):
        every = [errors(model, data(model, 10).to(dtype), steps=steps) for steps in (5, 10, 20, 40) for model in models]
        every += [errors(model, data(model, 4).to(dtype), steps=steps) for steps in (5, 10, 20) for model in wide]
        share, ratio = judged(every)
        assert share >= 0.95 and ratio < 50, (share, ratio)
    share, ratio = judged([errors(model, data(model, 10), tolerance=t) for t in (1e-3, 1e-5) for model in models])
    assert share >= 0.95 and ratio < 50, (share, ratio)


def test_it_covers_the_error_of_steps_of_each_samples_own(unchecked: None) -> None:
    """Killed by a tally of the steps that were rejected as well, or of none."""
    models = [kind(sde, 2, size) for sde in PROCESSES[:2] for size in (0.03, 1.0, 30.0) for kind in (normal, mixture)]
    share, ratio = judged([errors(model, data(model, 10), tolerance=1e-4) for model in models])
    assert share >= 0.95 and ratio < 25, (share, ratio)


def test_it_covers_the_rounding_of_float32(unchecked: None) -> None:
    """Of data of unit variance under VP the steps make no error, and the rest is rounding. Killed by leaving it out."""
    for d in (1, 16, 256):
        model = normal(VP(), d, 1.0)
        estimated, true = errors(model, data(model, 50).float(), steps=10)
        assert float((estimated >= true).double().mean()) >= 0.95 and float(estimated.mean()) < 1e-5 * d


def test_an_error_of_the_state_counts_by_the_score(unchecked: None) -> None:
    """What a change of u at a place does to log p(u) there, to first order: killed by s for s^2, by w left out."""
    sde, d, change = EDM(), 3, 1e-4
    model = mixture(sde, d, 0.5)
    for s in (0.01, 0.3, 4.0):
        place = torch.tensor(DENSITY.place(s), dtype=torch.float64)
        at = DENSITY.point(sde, place)
        x = model.marginal(float(at.time)).sample(torch.empty(9, d, dtype=torch.float64), Noise.per_sample(range(9)))
        u, direction = x / at.scale, Noise.per_sample(range(9)).normal(x)
        slope = at.rate * (at.shrink * u - model(x, at.time))
        moved = [model.log_prob(at.scale * (u + sign * change * direction), at.time) for sign in (1, -1)]
        wanted = 0.5 * (moved[0] - moved[1]).abs()
        none = torch.zeros(9, 1, dtype=torch.float64)
        found = local_error(
            DENSITY.steepness(place),
            d,
            torch.cat((change * direction, none), 1),
            torch.cat((u, none), 1),
            torch.cat((slope, none), 1),
        )
        torch.testing.assert_close(found, MULTIPLES[5] * wanted * wanted.clamp_max(1) ** 0.2, rtol=1e-3, atol=1e-12)


def test_the_differences_vanish_for_slopes_of_low_degree() -> None:
    """Killed by a slip in a weight: THIRD annihilates polynomials of degree 2 at the nodes, and sees those of 3."""
    nodes = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
    moments = [sum(w * node**k for w, node in zip(THIRD, nodes, strict=True)) for k in range(4)]
    assert moments[:3] == pytest.approx([0, 0, 0], abs=1e-15) and abs(moments[3]) > 0.01


def test_the_error_of_the_estimate_falls_with_the_sixth_power_of_a_step(unchecked: None) -> None:
    """Squares of 6th order in each of N steps make order 5.5; killed by exponents of 1, order 4.5."""
    model = mixture(VP(), 2, 1.0)
    x = data(model, 64)
    mean = [float(log_prob(model, x, steps=steps).solver_error.median()) for steps in (40, 80)]
    assert 5.2 < math.log2(mean[0] / mean[1]) < 6.5


def test_the_default_warns_where_it_is_far_off_and_takes_a_call_more(unchecked: None) -> None:
    for sde in (VP(), VE(), EDM()):
        model = normal(sde, 2, 100.0)
        with pytest.warns(UserWarning, match=r"10 steps may err by more than 0.5 nats per dimension.*a tolerance"):
            found = log_prob(model, data(model, 20))
        assert float(found.solver_error.median()) > 2 * LARGE and found.nfe.tolist() == [61] * 20
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            log_prob(model, data(model, 20), steps=10)  # asked for
            log_prob(model, data(model, 20), tolerance=1e-2)
            near = normal(sde, 2, 1.0)
            assert log_prob(near, data(near, 20)).nfe.tolist() == [60] * 20


def test_the_call_more_is_of_those_to_whom_it_matters(unchecked: None) -> None:
    """Rows of a batch, alone and together. Killed by the slope or by the probes of other rows."""
    d = 16
    g = torch.Generator().manual_seed(0)
    factor = torch.randn(d, d, generator=g, dtype=torch.float64)
    model = gaussian(VP(), torch.zeros(d), factor @ factor.T / d)
    x = data(model, 8)
    x[5] *= 100
    found = log_prob(model, x, steps=5, divergence=Hutchinson(2))
    assert found.nfe[5] == 31 and 30 in found.nfe.tolist()
    alone = [
        log_prob(model, x[k : k + 1], seeds=[k], steps=5, divergence=Hutchinson(2)).solver_error for k in range(len(x))
    ]
    torch.testing.assert_close(found.solver_error, torch.cat(alone), rtol=1e-6, atol=1e-12)


class Counting(Denoiser):
    def __init__(self, model: Denoiser) -> None:
        super().__init__(model.sde)
        self.model, self.calls = model, 0

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        self.calls += 1
        return self.model(x, t)


def test_calls_are_counted(unchecked: None) -> None:
    for size, calls in ((1.0, 60), (100.0, 61)):
        model = Counting(normal(VP(), 2, size))
        x = data(normal(VP(), 2, size), 4)
        assert log_prob(model, x, steps=10).nfe.tolist() == [calls] * 4 and model.calls == calls
    model.calls = 0
    encode(model, x, steps=10)  # has no log-density whose error to estimate
    assert model.calls == 60 and ends_of(model.sde, x.dtype).last > 100
