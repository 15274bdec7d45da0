"""Adaptive methods: errors follow the tolerance, samples keep to themselves, and the SDE's law is unbiased.

And the kernels, in closed form, of the methods that add noise before or within a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations_with_replacement, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers.processes import PROCESSES, name
from scipy.integrate import DOP853, LSODA, RK45
from torch import Tensor

from scorefield import (
    VE,
    VP,
    Cosine,
    GaussianMixture,
    GaussianSDE,
    Knot,
    Noise,
    ScoreModel,
    SubVP,
    gaussian,
    grids,
)
from scorefield.sampling import integrate
from scorefield.score import Denoiser
from scorefield.solvers import (
    RK4,
    AdaptiveRungeKutta,
    AdaptiveSDE,
    BogackiShampine,
    DormandPrince,
    SciPyODE,
    Solver,
    Step,
)

ODES: list[AdaptiveRungeKutta] = [BogackiShampine(), DormandPrince()]
every_ode = pytest.mark.parametrize("solver", ODES, ids=["BogackiShampine", "DormandPrince"])


def cluster(sde: GaussianSDE, d: int = 2) -> GaussianMixture:
    """Eight narrow components at random places; each coordinate has mean 0 and, on average over them, variance 1."""
    g = torch.Generator().manual_seed(0)
    means = torch.randn(8, d, generator=g, dtype=torch.float64)
    variances = 0.02 + 0.1 * torch.rand(8, d, generator=g, dtype=torch.float64) ** 2
    weights = 0.3 + torch.rand(8, generator=g, dtype=torch.float64)
    weights = weights / weights.sum()
    means = means - weights @ means
    total = (weights @ (means**2 + variances)).mean()
    return GaussianMixture(sde, weights, means / total.sqrt(), variances / total)


def starts(sde: GaussianSDE, n: int, *shape: int) -> Tensor:
    return sde.prior.sample(torch.empty(n, *shape, dtype=torch.float64), Noise.per_sample(range(n)))


def whole_way(sde: GaussianSDE, end: float) -> list[float]:
    """[T, t, 0] with sigma / alpha = end at t."""
    return [sde.T, sde.knot_at(-2 * math.log(end)).t, 0.0]


def solve(model: Denoiser, x: Tensor, times: list[float], solver: Solver) -> tuple[Tensor, Tensor]:
    """The end, and the calls that each sample has made."""
    calls = torch.zeros(len(x), dtype=torch.int64)

    def count(k: int, knot: Knot, step: Step) -> None:
        calls.add_(torch.as_tensor(1 if step.info is None else step.info["calls"]))  # the denoise step is one

    y = integrate(model, x, times, solver, noise=Noise.per_sample(range(len(x))), callback=count)
    return y, calls


@pytest.fixture(scope="module")
def problem() -> Iterator[tuple[GaussianMixture, Tensor, Tensor]]:
    """A model, starts at T, and where the exact ODE takes them: 300 steps of RK4 agree with 1200 to 2e-7."""
    model = cluster(VP(t_min=1e-10))  # adaptive methods ask for no earlier time
    x = starts(model.sde, 150, 2)
    times = grids.uniform_log_snr(model.sde, 301, model.sde.knot_at(-2 * math.log(1e-5)).t)
    yield model, x, integrate(model, x, times, RK4(), noise=Noise.per_sample(range(150)))


def distance(x: Tensor, y: Tensor) -> float:
    return float((x - y).norm(dim=1).mean()) / math.sqrt(2)


# ---- Runge-Kutta


def trees(n: int) -> list[tuple[Any, ...]]:
    """The rooted trees of n nodes, each the tuple of its branches."""
    if n == 1:
        return [()]

    def forests(n: int, least: int) -> Iterator[tuple[Any, ...]]:
        if n == 0:
            yield ()
        for size in range(least, n + 1):
            for count in range(1, n // size + 1):
                for chosen in combinations_with_replacement(trees(size), count):
                    for rest in forests(n - size * count, size + 1):
                        yield chosen + rest

    return list(forests(n - 1, 1))


def size_of(tree: tuple[Any, ...]) -> int:
    return 1 + sum(size_of(t) for t in tree)


def density(tree: tuple[Any, ...]) -> int:
    return size_of(tree) * math.prod(density(t) for t in tree)


def weight(tree: tuple[Any, ...], a: np.ndarray) -> np.ndarray:
    return np.prod([a @ weight(t, a) for t in tree] or [np.ones(len(a))], axis=0)


@every_ode
def test_tableaus_meet_all_conditions_of_their_order(solver: AdaptiveRungeKutta) -> None:
    # Butcher's: b . weight(tree) = 1 / density(tree) for each rooted tree of up to `order` nodes
    order, nodes, stages, error = solver.tableau
    assert [len(trees(n)) for n in range(1, 6)] == [1, 1, 2, 4, 9]
    n = len(nodes) + 1
    a = np.zeros((n, n))
    for i, row in enumerate(stages, start=1):
        a[i, : len(row)] = row
    b = a[-1]  # the last stage is made at the result, to be the first of the next step
    np.testing.assert_allclose(a.sum(1), [0, *nodes], atol=1e-15)
    assert nodes[-1] == 1

    def defects(b: np.ndarray, nodes: int) -> list[float]:
        return [abs(b @ weight(t, a) - 1 / density(t)) for t in trees(nodes)]

    for p in range(1, order + 1):
        assert max(defects(b, p)) < 1e-14
        # the embedded method is of one order less and no more, or the estimate would be of another size
        embedded = max(defects(b - np.array(error), p))
        assert embedded < 1e-14 if p < order else embedded > 1e-4
    assert max(defects(b, order + 1)) > 1e-4


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("solver", "error", "most"),
    [
        (BogackiShampine(1e-3), 1e-3, 38),
        (BogackiShampine(1e-5), 1e-5, 120),
        (DormandPrince(1e-3), 3e-3, 40),
        (DormandPrince(1e-6), 2e-6, 98),
    ],
    ids=str,
)
def test_errors_and_calls_on_a_mixture(
    problem: tuple[GaussianMixture, Tensor, Tensor], solver: AdaptiveRungeKutta, error: float, most: float
) -> None:
    model, x, exact = problem
    y, calls = solve(model, x, whole_way(model.sde, math.sqrt(solver.tolerance) / 3), solver)
    assert distance(y, exact) < error
    assert float(calls.double().mean()) < most


@pytest.mark.usefixtures("unchecked")
@every_ode
def test_errors_fall_with_the_tolerance(
    problem: tuple[GaussianMixture, Tensor, Tensor], solver: AdaptiveRungeKutta
) -> None:
    model, x, exact = problem
    times = whole_way(model.sde, 1e-5)
    errors = [distance(solve(model, x, times, type(solver)(10**-k))[0], exact) for k in range(2, 7)]
    for one, other in pairwise(errors):
        assert other < one / 5
    assert errors[-1] < 2e-6


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("solver", [*ODES, DormandPrince(1e-6), AdaptiveSDE()], ids=str)
def test_samples_take_no_notice_of_each_other(solver: Solver) -> None:
    # a step size or an error norm that is shared would show: starts of very different sizes need different steps
    model = cluster(VP())
    x = starts(model.sde, 12, 2) * torch.linspace(0.1, 3, 12, dtype=torch.float64)[:, None]
    now, next = model.sde.knots([1.0, 0.01])
    noise = Noise.per_sample(range(12))
    together = solver.step(model, x, now, next, None, noise=noise)
    for rows in (torch.tensor([7, 2, 11]), *torch.arange(12)[:4].split(1)):
        apart = solver.step(model, x[rows], now, next, None, noise=noise.select(rows))
        torch.testing.assert_close(apart.x, together.x[rows], rtol=0, atol=1e-11)
        assert torch.equal(apart.info["calls"], together.info["calls"][rows])  # type: ignore[index]
    assert len(together.info["calls"].unique()) > 1  # type: ignore[index]


class _Labelled(Denoiser):
    """N(label, 0.1 + 0.2 label): the condition tells the mean and the variance."""

    def forward(self, x: Tensor, t: Tensor, *, label: Tensor) -> Tensor:  # type: ignore[override]
        label = label.double()[:, None]
        alpha, sigma = (v[:, None] for v in (self.sde.alpha(t), self.sde.sigma(t)))
        v = 0.1 + 0.2 * label
        return label + alpha * v / (alpha**2 * v + sigma**2) * (x - alpha * label)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "solver", [BogackiShampine(), DormandPrince(1e-6), SciPyODE(rtol=1e-6, atol=1e-6), AdaptiveSDE()], ids=str
)
def test_conditions_stay_with_their_samples_when_others_have_arrived(solver: Solver) -> None:
    sde = VP()
    labels = torch.tensor([3, 0, 2, 2, 1, 0, 3, 1])
    x = starts(sde, 8, 1)
    now, next = sde.knots([1.0, 0.002])
    noise = Noise.per_sample(range(8))
    step = solver.step(_Labelled(sde).given(label=labels), x, now, next, None, noise=noise)
    assert len(step.info["calls"].unique()) > 1  # type: ignore[index]
    for row in (0, 1, 6):
        label = float(labels[row])
        alone = gaussian(sde, torch.full((1,), label), torch.tensor(0.1 + 0.2 * label, dtype=torch.float64))
        apart = solver.step(alone, x[row : row + 1], now, next, None, noise=noise.select(torch.tensor([row])))
        torch.testing.assert_close(apart.x, step.x[row : row + 1], rtol=0, atol=1e-10)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("solver", [BogackiShampine(1e-5), DormandPrince(1e-7)], ids=str)
@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_gaussians_are_carried_to_the_noise_and_back(sde: GaussianSDE, solver: AdaptiveRungeKutta) -> None:
    # the exact map multiplies by the ratio of the standard deviations
    v = torch.tensor([0.05, 1.0, 4.0], dtype=torch.float64)
    model = gaussian(sde, torch.zeros(3), v)
    low, high = sde.t_end, sde.T
    first, last = ((k.alpha**2 * v + k.sigma**2).sqrt() for k in sde.knots([low, high]))
    x = first * Noise.per_sample(range(6)).normal(torch.empty(6, 3, dtype=torch.float64))
    encoded, _ = solve(model, x, [low, high], solver)
    torch.testing.assert_close(encoded / last, x / first, rtol=0, atol=20 * solver.tolerance)
    decoded, _ = solve(model, encoded, [high, low], solver)
    torch.testing.assert_close(decoded / first, x / first, rtol=0, atol=40 * solver.tolerance)


def test_every_shape_and_precision_gives_the_same() -> None:
    sde = VP()
    x = starts(sde, 4, 192)
    for solver in (BogackiShampine(1e-4), DormandPrince(1e-4)):
        flat, calls = solve(gaussian(sde, torch.full((192,), 0.3), torch.tensor(0.2)), x, [1.0, 0.01, 0.0], solver)
        image = gaussian(sde, torch.full((3, 8, 8), 0.3), torch.tensor(0.2))
        same, again = solve(image, x.reshape(4, 3, 8, 8), [1.0, 0.01, 0.0], solver)
        assert torch.equal(same.flatten(1), flat)
        assert torch.equal(calls, again)
        single, _ = solve(image.float(), x.reshape(4, 3, 8, 8).float(), [1.0, 0.01, 0.0], solver)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), same, rtol=0, atol=1e-5)
        # a scalar: the exact map is affine, and its slope the ratio of standard deviations
        scalar = gaussian(sde, torch.tensor(0.3), torch.tensor(0.2))
        y, _ = solve(scalar, x[:, 0], [1.0, 0.01], solver)
        a, b = sde.knots([1.0, 0.01])
        ratio = math.sqrt((b.alpha**2 * 0.2 + b.sigma**2) / (a.alpha**2 * 0.2 + a.sigma**2))
        torch.testing.assert_close(y, 0.3 * b.alpha + ratio * (x[:, 0] - 0.3 * a.alpha), rtol=0, atol=2e-4)


class _Tally(Denoiser):
    """Counts the rows that it was asked for."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.sde)
        self.inner, self.rows = inner, 0

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        assert t.shape in ((), (len(x),))
        self.rows += len(x)
        return self.inner(x, t)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("solver", [*ODES, AdaptiveSDE(), SciPyODE()], ids=str)
def test_calls_are_reported_truthfully(solver: Solver) -> None:
    # each sample's are those that it makes alone; together the network sees all of the batch until the last has arrived
    model, noise = _Tally(cluster(VP())), Noise.per_sample(range(9))
    x, ends = starts(model.sde, 9, 2), model.sde.knots([1.0, 0.01])
    calls = solver.step(model, x, *ends, None, noise=noise).info["calls"].tolist()  # type: ignore[index]
    assert len(set(calls)) > 1
    assert model.rows == (sum(calls) if isinstance(solver, SciPyODE) else 9 * max(calls))
    for row, needed in enumerate(calls):
        model.rows = 0
        solver.step(model, x[row : row + 1], *ends, None, noise=noise.select(torch.tensor([row])))
        assert model.rows == needed


class _Broken(Denoiser):
    """No number from some signal-to-noise ratio on."""

    def __init__(self, sde: GaussianSDE, from_: float) -> None:
        super().__init__(sde)
        self.from_ = from_

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return torch.where(self.sde.log_snr(t)[:, None] > self.from_, math.nan, 0.5 * x)


@every_ode
@pytest.mark.parametrize("early", [5.0, 1e-6], ids=["midway", "at the end"])
def test_scores_that_are_no_numbers_are_an_error_and_not_a_result(solver: AdaptiveRungeKutta, early: float) -> None:
    model = _Broken(VP(), VP().knots([0.01])[0].log_snr - early)
    with pytest.raises(ValueError, match=r"cannot meet the tolerance 0.001.* is the score finite everywhere\?"):
        solve(model, starts(VP(), 3, 2), [1.0, 0.01], solver)


def test_an_sde_with_scores_that_are_no_numbers_is_an_error() -> None:
    model = _Broken(VP(), 0.0)
    with pytest.raises(ValueError, match=r"cannot meet the tolerance 0.05.* finite everywhere\?"):
        solve(model, starts(VP(), 3, 2), [1.0, 0.01], AdaptiveSDE())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", [DOP853, RK45, LSODA])
def test_methods_of_scipy_come_to_the_same_end(problem: tuple[GaussianMixture, Tensor, Tensor], method: Any) -> None:
    model, x, exact = problem
    times = whole_way(model.sde, 1e-5)
    ours, _ = solve(model, x[:3], times, DormandPrince(1e-10))
    theirs, calls = solve(model, x[:3], times, SciPyODE(method, 1e-9, 1e-9))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours, exact[:3], rtol=0, atol=1e-6)
    assert bool((calls > 60).all())


def test_scipy_returns_the_shape_and_precision_of_the_states() -> None:
    model = gaussian(VP(), torch.zeros(2, 3), torch.ones(6))
    x = starts(VP(), 4, 2, 3).float()
    y, _ = solve(model, x, [1.0, 0.01], SciPyODE())  # N(0, I) is at rest under VP
    torch.testing.assert_close(y, x, rtol=0, atol=1e-3)


FINE = {  # below what float32 tells apart: minutes of steps, and then another message on sub-VP than on others
    "samples": lambda model, x: model.sample(seeds=range(2), tolerance=1e-12),
    "samples by a solver": lambda model, x: model.sample(seeds=range(2), solver=DormandPrince(1e-12)),
    "likelihoods": lambda model, x: model.log_prob(x, tolerance=1e-12),
    "encodings": lambda model, x: model.encode(x, tolerance=1e-12),
}


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(), Cosine()], ids=name)
@pytest.mark.parametrize("what", FINE)
def test_tolerances_below_the_rounding_are_refused_at_once(what, sde):
    calls = 0

    class Counted(Denoiser):
        def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return 0.3 * x

    x = torch.tensor([[0.3, -1.0]])
    with pytest.raises(
        ValueError, match=r"tolerance must lie in \[.*\), since .* got 1e-12|cannot meet the tolerance 1e-12"
    ):
        FINE[what](ScoreModel(Counted(sde), (2,)), x)
    assert calls <= 1
    if what == "samples":
        with pytest.raises(ValueError, match=r"tolerance must lie in \[.*\), since .* errs by as much; got 1e-12"):
            FINE[what](ScoreModel(Counted(sde), (2,)), x)
