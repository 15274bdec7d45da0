"""Methods at a fixed time: stationary laws, acceptance and paths in closed form, and what chains of them find."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefield import EDM, VE, VP, GaussianMixture, GaussianSDE, ItoSDE, Knot, Noise, NormalPrior, chain, gaussian
from scorefield._response import Source, silence, unit_vector
from scorefield.sampling import integrate
from scorefield.score import Denoiser
from scorefield.solvers import (
    BAOAB,
    DDIM,
    HMC,
    MALA,
    AnnealedLangevin,
    GradientAscent,
    Langevin,
    PredictorCorrector,
    Solver,
    Step,
)

POINTS = [(VP(), 0.2), (VP(), 0.9), (VE(), 0.1), (VE(), 0.7)]
SHARES = torch.tensor([0.2, 1.0, 4.0], dtype=torch.float64)  # of the data in the noise, in variance
at_every_point = pytest.mark.parametrize(("sde", "t"), POINTS, ids=["VP .2", "VP .9", "VE .1", "VE .7"])


@dataclasses.dataclass
class Plain:
    """A score without its log-density, and a record of where it was asked for."""

    model: Denoiser
    asked: list[Tensor] = dataclasses.field(default_factory=list)

    @property
    def sde(self) -> GaussianSDE:
        return self.model.sde

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        self.asked.append(x)
        return self.model.score(x, t)


@dataclasses.dataclass
class Given:
    """Noise that returns what it was given: normals for draw 0, and the logs of uniform numbers."""

    z: Tensor
    log_u: Tensor

    def at(self, step: int) -> Given:
        return self

    def child(self, part: int) -> Given:
        return self

    def select(self, rows: Tensor) -> Given:
        return Given(self.z[rows], self.log_u[rows])

    def normal(self, like: Tensor, draw: int = 0) -> Tensor:
        assert draw == 0
        return self.z.to(like).expand_as(like)

    def uniform(self, like: Tensor, draw: int = 0) -> Tensor:
        return self.log_u.exp().expand_as(like)


def law_at(sde: GaussianSDE, t: float) -> tuple[GaussianMixture, Tensor, Knot]:
    """A Gaussian model whose variances at t are 1.2, 2 and 5 times the noise's, these variances, and the knot."""
    (knot,) = sde.knots([t])
    v = SHARES * (knot.sigma / knot.alpha) ** 2
    return gaussian(sde, torch.zeros(3), v), knot.alpha**2 * v + knot.sigma**2, knot


def coefficients(corrector: Solver, model: GaussianMixture, t: float, steps: int, start: Tensor | float) -> Tensor:
    """Of the start (row 0) and of each draw (the other rows) in the end of a chain, which is linear in them."""
    names: dict[Any, int] = {}
    chain(model, torch.zeros(1, 3, dtype=torch.float64), t, corrector, steps, noise=Source(names, silence))
    x = torch.zeros(1 + len(names), 3, dtype=torch.float64)
    x[0] = start
    return chain(model, x, t, corrector, steps, noise=Source(names, unit_vector))


def two_modes(sde: GaussianSDE, d: int = 1) -> GaussianMixture:
    means = torch.zeros(2, d)
    means[:, 0] = torch.tensor([-1.5, 1.0])
    return GaussianMixture(sde, torch.tensor([0.3, 0.7]), means, torch.tensor([0.1, 0.3]))


def log_ratio(corrector: HMC, model: Any, x: Tensor, knot: Knot, p: Tensor) -> Tensor:
    """The log of the acceptance probability, found by bisecting the uniform number that decides."""
    low, high = torch.full((len(x),), -300.0, dtype=torch.float64), torch.zeros(len(x), dtype=torch.float64)
    for _ in range(50):
        middle = 0.5 * (low + high)
        step = corrector.step(model, x, knot, knot, None, noise=Given(p, middle))
        accepted = step.info["accepted"]  # type: ignore[index]
        low, high = torch.where(accepted, middle, low), torch.where(accepted, high, middle)
    return low


def always(x: Tensor) -> Tensor:
    """Logs of uniform numbers that accept everything but what is no number."""
    return torch.full((len(x),), -300.0, dtype=torch.float64)


def path(corrector: HMC, model: Denoiser, x: Tensor, knot: Knot, p: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The end of a leapfrog path, the momentum there, and the positions on it."""
    plain, h = Plain(model), 2 * corrector.snr * corrector.unit(model, knot)
    y = corrector.step(plain, x, knot, knot, None, noise=Given(p, always(x))).x
    assert torch.equal(y, plain.asked[-1])
    momentum = (y - plain.asked[-2]) / h + 0.5 * h * model.score(y, knot.time)
    return y, momentum, plain.asked


def hamiltonian(model: GaussianMixture, x: Tensor, p: Tensor, knot: Knot) -> Tensor:
    return 0.5 * (p**2).sum(1) - model.log_prob(x, knot.time)


def states(n: int, d: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    noise = Noise.per_sample(range(seed, seed + n))
    like = torch.empty(n, d, dtype=torch.float64)
    return 1.2 * noise.normal(like), noise.normal(like, draw=1)


# ---- stationary laws on Gaussians, exact


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("snr", "length"), [(0.05, None), (0.16, 0.7), (0.6, 0.9)])
@at_every_point
def test_langevin_keeps_a_gaussian_of_a_variance_that_is_too_large_by_a_known_factor(
    sde: GaussianSDE, t: float, snr: float, length: float | None
) -> None:
    model, v, knot = law_at(sde, t)
    unit = (length or 1) * knot.sigma
    eps = 2 * (snr * unit) ** 2
    expected = v / (1 - eps / (2 * v))
    ends = coefficients(Langevin(snr, unit if length else None), model, t, 15, (2 * expected).sqrt())
    # the start is forgotten at the rate 1 - eps / v, and what it leaves behind is the stationary law
    forgotten = (1 - eps / v) ** 15
    torch.testing.assert_close(ends[0], (2 * expected).sqrt() * forgotten, rtol=1e-9, atol=1e-300)
    torch.testing.assert_close(ends[1:].square().sum(0), expected * (1 - forgotten**2), rtol=1e-9, atol=0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("point", "snr", "friction"), [(0, 0.4, 1.0), (3, 0.9, 0.3)])
def test_a_chain_of_baoab_ends_at_the_right_variance_of_a_gaussian(point: int, snr: float, friction: float) -> None:
    model, v, _ = law_at(*POINTS[point])
    ends = coefficients(BAOAB(snr, friction=friction), model, POINTS[point][1], 150, (2 * v).sqrt())
    torch.testing.assert_close(ends.square().sum(0), v, rtol=1e-5, atol=0)


@pytest.mark.parametrize("friction", [0.3, 1.0, 2.0])
@pytest.mark.parametrize(("snr", "length"), [(0.16, None), (0.5, 1.3), (0.9, None)])
@at_every_point
def test_baoab_steps_are_the_products_of_their_five_maps_and_keep_a_gaussian_exactly(
    sde: GaussianSDE, t: float, snr: float, length: float | None, friction: float
) -> None:
    model, v, knot = law_at(sde, t)
    h, c = 2 * snr * (length or 1) * knot.sigma, math.exp(-2 * snr * friction)
    source = Source({}, unit_vector)
    x = torch.zeros(4, 3, dtype=torch.float64)  # rows: the start, its momentum, the noise of two steps
    x[0] = 1
    corrector = BAOAB(snr, length and length * knot.sigma, friction)
    found: list[Tensor] = []
    state = None
    for k in (1, 2):
        x, state, *_ = corrector.step(model, x, knot, knot, state, noise=source.at(k))
        found.append(torch.stack((x, state.momentum), -1))  # (row, component, position or momentum)

    kick, drift, damp = (torch.eye(2, dtype=torch.float64).repeat(3, 1, 1) for _ in range(3))
    kick[:, 1, 0] = -0.5 * h / v
    drift[:, 0, 1] = 0.5 * h
    damp[:, 1, 1] = c
    whole = kick @ drift @ damp @ drift @ kick
    noise = math.sqrt(1 - c**2) * (kick @ drift)[:, :, 1]
    first = torch.stack((whole[:, :, 0], whole[:, :, 1], noise, 0 * noise))
    second = torch.stack((*((whole @ row[..., None])[..., 0] for row in first[:3]), noise))
    size = torch.stack((v.sqrt(), torch.ones(3, dtype=torch.float64)), -1)
    for one, other in zip(found, (first, second), strict=True):
        torch.testing.assert_close(one / size, other / size, rtol=1e-10, atol=1e-11)

    # the stationary covariance of the maps that were run, S = M S M' + n n': a wrong 1/2 leaves a bias of order h^2
    for i in range(3):
        step, n = found[0][:2, i].mT, found[0][2, i]
        system = torch.eye(4, dtype=torch.float64) - torch.kron(step, step)
        assert float(torch.linalg.solve(system, torch.outer(n, n).ravel())[0]) == pytest.approx(float(v[i]), rel=1e-9)


@pytest.mark.usefixtures("unchecked")
def test_gradient_ascent_contracts_a_gaussian_and_ends_at_a_mode_of_a_mixture() -> None:
    model, v, knot = law_at(VP(), 0.3)
    ends = coefficients(GradientAscent(0.3), model, 0.3, 10, torch.ones(3, dtype=torch.float64))
    assert ends.shape == (1, 3)  # no noise is drawn
    torch.testing.assert_close(ends[0], (1 - 2 * (0.3 * knot.sigma) ** 2 / v) ** 10)

    mixture = two_modes(EDM(), 2)
    x, _ = states(50, 2)
    (knot,) = EDM().knots([0.2])
    y = chain(mixture, x, 0.2, GradientAscent(0.8), 400, noise=Noise.per_sample(range(50)))
    assert float(mixture.score(y, knot.time).abs().max()) < 1e-9
    assert {round(float(v), 2) for v in y[:, 0]} == {-1.5, 1.0}
    # a maximum, not a saddle: lower in each direction
    for step in (0.05 * torch.eye(2, dtype=torch.float64)).unbind():
        for sign in (-1, 1):
            assert bool((mixture.log_prob(y + sign * step, knot.time) < mixture.log_prob(y, knot.time)).all())


# ---- cached scores


@pytest.mark.parametrize(
    ("corrector", "first", "each"),
    [(Langevin(), 0, 1), (GradientAscent(), 0, 1), (BAOAB(), 1, 1), (HMC(steps=4), 1, 4), (MALA(), 1, 1)],
    ids=str,
)
def test_chains_ask_for_each_score_once(corrector: Solver, first: int, each: int) -> None:
    model = Plain(two_modes(VP()))
    x, _ = states(5)
    y = chain(model, x, 0.3, corrector, 9, noise=Noise.per_sample(range(5)))
    assert len(model.asked) == first + 9 * each
    places = torch.stack(model.asked)
    assert len(places.unique(dim=0)) == len(places)  # no place twice, unless a chain stayed there: not so with these
    assert y.shape == x.shape


@pytest.mark.parametrize("corrector", [BAOAB(), HMC(steps=2), MALA()], ids=str)
def test_a_score_from_elsewhere_is_never_used(corrector: Solver) -> None:
    model = two_modes(VP())
    here, there = VP().knots([0.3, 0.25])
    x, _ = states(6)
    noise = Noise.per_sample(range(6))
    x, state, *_ = corrector.step(model, x, here, here, None, noise=noise.at(1))
    poisoned = state._replace(score=torch.full_like(x, math.nan))

    def next_step(x: Tensor, knot: Knot, state: Any) -> Tensor:
        step = corrector.step(model, x, knot, knot, state, noise=noise.at(2))
        return step.x if not isinstance(corrector, HMC) else torch.where(step.x == x, math.nan, step.x)

    assert bool(next_step(x, here, poisoned).isnan().all())  # where nothing has moved, it is
    moved = x + 0.1
    for place, knot in ((moved, here), (x, there), (x.clone(), here)):
        fresh = state._replace(score=model.score(place, knot.time), x=place, t=knot.t)
        assert bool((~next_step(place, knot, poisoned).isnan()).any())
        torch.testing.assert_close(next_step(place, knot, poisoned), next_step(place, knot, fresh), equal_nan=True)


def test_correctors_inside_a_predictor_corrector_ask_anew_after_each_prediction() -> None:
    model = Plain(two_modes(VP()))
    x, _ = states(3)
    integrate(
        model, x, [0.6, 0.5, 0.4], PredictorCorrector(DDIM(), BAOAB(), corrections=3), noise=Noise.per_sample(range(3))
    )
    # DDIM asks once, the corrector once for the place where the prediction came to and once for each step
    assert len(model.asked) == 2 * (1 + 1 + 3)


# ---- errors


@pytest.mark.parametrize("make", [Langevin, GradientAscent, BAOAB, HMC, MALA])
@pytest.mark.parametrize("value", [0.0, -0.1, math.inf, math.nan])
def test_sizes_that_are_not_positive_are_refused(make: Any, value: float) -> None:
    with pytest.raises(ValueError, match="snr must be positive"):
        make(value)
    with pytest.raises(ValueError, match="length must be positive"):
        make(0.1, value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BAOAB(friction=0.0), "friction must be positive; got 0.0"),
        (lambda: BAOAB(friction=math.inf), "friction must be positive; got inf"),
        (lambda: HMC(steps=0), "steps must.*; got 0"),
        (lambda: AnnealedLangevin(steps=0), "steps must.*; got 0"),
        (lambda: AnnealedLangevin.ncsnv2(1.0), "ratio > 1"),
        (lambda: AnnealedLangevin.ncsnv2(math.nan), "ratio > 1"),
        (lambda: AnnealedLangevin.ncsnv2(1.5, 0), "steps >= 1; got 1.5 and 0"),
    ],
)
def test_bad_numbers_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@dataclasses.dataclass
class _Normal:
    """A score of N(0, 1) for a process without alpha and sigma."""

    sde: ItoSDE

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        return -x


@pytest.mark.parametrize("make", [Langevin, GradientAscent, BAOAB, HMC, MALA])
def test_a_process_without_sigma_needs_a_length(make: Any) -> None:
    sde = ItoSDE(f=lambda x, t: -x, g=lambda x, t: torch.tensor(2.0).sqrt(), terminal=NormalPrior(1.0))
    x, _ = states(4)
    noise = Noise.per_sample(range(4))
    with pytest.raises(ValueError, match=f"{make.__name__}: ItoSDE has no sigma at t = 0.5 .* give `length`"):
        chain(_Normal(sde), x, 0.5, make(0.3), 2, noise=noise)
    # N(0, 1) is also the law under VP, where 0.8 stands for sigma
    expected = chain(gaussian(VP(), torch.zeros(1), torch.ones(1)), x, 0.5, make(0.3, 0.8), 3, noise=noise)
    torch.testing.assert_close(chain(_Normal(sde), x, 0.5, make(0.3, 0.8), 3, noise=noise), expected)


def test_a_chain_needs_steps_and_a_time_and_reports_each_step() -> None:
    model = two_modes(VP())
    x, _ = states(2)
    noise = Noise.per_sample(range(2))
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
        chain(model, x, 0.3, Langevin(), 0, noise=noise)
    for t in (0.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="a time above 0"):
            chain(model, x, t, Langevin(), 1, noise=noise)
    with pytest.raises(ValueError, match=r"lie in \[0, 1.0\]; got 1.5"):
        chain(model, x, 1.5, Langevin(), 1, noise=noise)
    seen: list[tuple[int, Knot, Step]] = []
    y = chain(model, x, 0.3, Langevin(), 3, noise=noise, callback=lambda *a: seen.append(a))
    assert [k for k, _, _ in seen] == [1, 2, 3]
    assert {knot.t for _, knot, _ in seen} == {0.3}
    assert seen[-1][2].x is y
    # step k takes its noise from noise.at(k): the last one made by hand
    last = Langevin().step(model, seen[1][2].x, seen[1][1], seen[1][1], None, noise=noise.at(3)).x
    assert torch.equal(last, y)
