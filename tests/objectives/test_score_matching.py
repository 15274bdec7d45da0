"""Implicit and sliced score matching against closed forms, against each other, and against the true score.

Statistical checks run at fixed seeds; at other seeds each fails correct code with probability 1e-6.
"""

from __future__ import annotations

import math

import pytest
import torch
from helpers.networks import awake
from helpers.processes import Warming
from scipy import stats
from torch import Tensor

from scorefield import (
    VE,
    VP,
    EDMPrecond,
    ItoSDE,
    Noise,
    PlainScore,
    Preconditioned,
    ScoreModule,
    ScoreNetwork,
    gaussian,
)
from scorefield.nn import MLP, seeded
from scorefield.objectives import (
    AdaptiveLogSNR,
    Clean,
    DenoisingScoreMatching,
    ImplicitScoreMatching,
    Levels,
    LikelihoodWeight,
    Objective,
    OneLevel,
    PathTarget,
    Perturbed,
    Simulated,
    SlicedScoreMatching,
    States,
    kl_bound,
)

SIGMAS = stats.norm.isf(1e-6 / 2)
EVENTS = [(), (2,), (2, 3)]
OBJECTIVES = [
    ImplicitScoreMatching,
    SlicedScoreMatching,
    lambda states: SlicedScoreMatching(states, projections=3, gaussian=True),
    lambda states: SlicedScoreMatching(states, projections=2, reduced=False),
]
every_objective = pytest.mark.parametrize("make", OBJECTIVES, ids=["exact", "sliced", "normal", "not reduced"])


class Linear(ScoreModule):
    """s = -k x, with a slope that depends on the component."""

    def __init__(self, sde, k: Tensor) -> None:
        super().__init__()
        self.sde, self.k = sde, k

    def score(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return -self.k * x


def normals(n: int, *event: int, seed: int = 0) -> Tensor:
    return Noise.per_sample(range(seed, seed + n)).normal(torch.empty(n, *event, dtype=torch.float64))


def within(values: Tensor, mean: float | Tensor) -> bool:
    """Whether the mean of independent values is what it should be, but for chance."""
    values = values.detach()
    return bool(abs(float((values - mean).mean())) <= SIGMAS * float(values.std()) / math.sqrt(len(values)))


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_the_exact_loss_of_a_linear_score_is_its_closed_form(event):
    """-lambda tr K + lambda/2 |K x|^2 at x_t = alpha x_0 + sigma eps, lambda = sigma^2. Kills a missing 1/2."""
    sde, n = VP(), 5
    k = torch.rand(event, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0, noise = normals(n, *event), Noise.per_batch(1, n)
    losses = ImplicitScoreMatching()(Linear(sde, k), x0, noise=noise)
    t = sde.t_min + (sde.T - sde.t_min) * noise.stratified(0)
    xt = sde.perturb(x0, t, noise.normal(x0, draw=1))
    expected = sde.sigma(t) ** 2 * (0.5 * ((k * xt) ** 2).reshape(n, -1).sum(1) - k.sum())
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)


def test_a_weight_that_depends_on_the_state_is_differentiated():
    """With Lambda = t x^2 and s = -k x the loss is -3 k t x^2 + t k^2 x^4 / 2. Kills Lambda div s."""
    sde, k = ItoSDE(f=lambda x, t: -x, g=lambda x, t: x), 0.7
    x0, noise = 1 + 0.1 * normals(6, 1), Noise.per_batch(2, 6)
    states = Simulated(10)
    model = Linear(sde, torch.tensor([k], dtype=torch.float64))
    drawn = states(model, x0, noise)
    x, t = drawn.x.detach()[:, 0], drawn.t
    losses = ImplicitScoreMatching(states)(model, x0, noise=noise)
    torch.testing.assert_close(losses, t * (-3 * k * x**2 + 0.5 * k**2 * x**4), rtol=1e-10, atol=1e-12)


@every_objective
@pytest.mark.parametrize("states", [Perturbed(), Clean()], ids=["noisy", "clean"])
def test_integration_by_parts(make, states):
    """E[loss] = E 1/2 lambda |s - grad log p|^2 - E 1/2 lambda |grad log p|^2 for x_0 ~ N(0, v), the paper's theorem.

    Kills v^T grad(s) v with a factor of 1/2 or 2, v of another variance, and the square's 1/2.
    """
    n, v, k = 40_000, 0.6, torch.tensor([0.4, 1.5], dtype=torch.float64)
    sde = VP() if isinstance(states, Perturbed) else ItoSDE(f=lambda x, t: 0 * x, g=lambda x, t: 0 * x)
    noise, x0 = Noise.per_batch(3, n), math.sqrt(v) * normals(n, 2)
    losses = make(states)(Linear(sde, k), x0, noise=noise)
    if isinstance(states, Perturbed):
        t = sde.t_min + (sde.T - sde.t_min) * noise.child(0).stratified(0)
        if make is ImplicitScoreMatching:
            t = sde.t_min + (sde.T - sde.t_min) * noise.stratified(0)
        variance, weight = sde.alpha(t) ** 2 * v + sde.sigma(t) ** 2, sde.sigma(t) ** 2
    else:
        variance, weight = torch.full((n,), v, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    # E 1/2 (k - 1/V)^2 V - 1/2 / V = k^2 V / 2 - k in each component
    expected = weight * (0.5 * variance[:, None] * k**2 - k).sum(1)
    assert within(losses, expected)
    assert float(losses.detach().std()) / math.sqrt(n) < 0.03


def small(sde) -> Preconditioned:
    with seeded(0):
        return Preconditioned(awake(MLP((2,), features=8, blocks=1).double()), sde, EDMPrecond(1.0))


def gradient(objective: Objective, model: ScoreModule, x0: Tensor, noise: Noise) -> Tensor:
    loss = objective(model, x0, noise=noise).mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in gradients])


class Held(States):
    """The same states whatever the noise."""

    def __call__(self, model, x0, noise):
        return Perturbed()(model, x0, Noise.per_batch(0, len(x0)))


def gradients_agree(make) -> bool:
    """Whether the mean gradient over projections is that of the exact loss, at level 1e-6 over all weights."""
    model, n, repeats = small(VP()), 32, 300
    x0 = normals(n, 2)
    exact = gradient(ImplicitScoreMatching(Held()), model, x0, Noise.per_batch(9, n))
    drawn = torch.stack([gradient(make(Held()), model, x0, Noise.per_batch(9, n).at(k)) for k in range(repeats)])
    z = (drawn.mean(0) - exact) / (drawn.std(0) / math.sqrt(repeats)).clamp_min(1e-12)
    return float(z.abs().max()) < stats.norm.isf(1e-6 / (2 * len(z)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("make", OBJECTIVES[1:], ids=["sliced", "normal", "not reduced"])
def test_gradients_of_sliced_score_matching_are_those_of_the_exact_in_expectation(make):
    assert gradients_agree(make)


@pytest.mark.usefixtures("unchecked")
def test_projections_of_length_one_are_caught(monkeypatch):
    original = Noise.rademacher
    monkeypatch.setattr(Noise, "rademacher", lambda self, x, draw=0: original(self, x, draw) / math.sqrt(x[0].numel()))
    assert not gradients_agree(SlicedScoreMatching)


@every_objective
def test_a_loss_does_not_depend_on_batch_mates_or_processes(make):
    model, x0 = small(VP()), normals(7, 2)
    objective = make(None)
    whole = objective(model, x0, noise=Noise.per_batch(5, 7).at(2)).detach()
    for positions in ([0, 2, 4, 6], [3]):
        part = objective(model, x0[positions], noise=Noise.per_batch(5, 7, positions).at(2)).detach()
        torch.testing.assert_close(part, whole[positions], rtol=1e-10, atol=1e-12)


@every_objective
def test_losses_without_gradients_are_the_same(make):
    """As validation has them: the derivatives by x are taken nevertheless."""
    model, x0 = small(VP()), normals(4, 2)
    recorded = make(None)(model, x0, noise=Noise.per_batch(0, 4))
    with torch.no_grad():
        plain = make(None)(model, x0, noise=Noise.per_batch(0, 4))
    assert recorded.requires_grad and not plain.requires_grad
    torch.testing.assert_close(recorded.detach(), plain, rtol=1e-12, atol=1e-12)


def test_levels_are_geometric_and_equally_likely():
    sde, n = VE(0.1, 10.0), 1000
    t, p = Levels(5)(sde, Noise.per_batch(0, n).stratified(0))
    sigma, count = sde.sigma(t).unique(return_counts=True)
    low = float(sde.sigma(torch.tensor(sde.t_min, dtype=torch.float64)))
    expected = torch.logspace(math.log10(low), 1, 5, dtype=torch.float64)
    unique = sorted({round(float(s), 9) for s in sigma})
    assert unique == pytest.approx(expected.tolist(), rel=1e-6)
    assert p.tolist() == pytest.approx([0.8 / (2 * math.log(10.0 / low))] * n, rel=1e-9) and int(count.sum()) == n
    for level in expected:
        assert int(((sde.sigma(t) / level - 1).abs() < 1e-6).sum()) == pytest.approx(n / 5, abs=1)


def test_one_level_is_that_level():
    t, p = OneLevel(0.5)(VP(), torch.linspace(0, 0.9, 4, dtype=torch.float64))
    torch.testing.assert_close(VP().sigma(t) / VP().alpha(t), torch.full((4,), 0.5, dtype=torch.float64))
    assert bool((p == 1).all())


def test_the_variance_of_one_small_level_blows_up_and_many_levels_cure_it():
    """A level's target z / sigma has variance 1 / sigma^2 about the score; many, weighted by sigma^2, order 1."""
    n, sde = 4000, VE(0.001, 10.0)
    truth = gaussian(sde, torch.zeros(1), torch.ones(1))
    x0 = normals(n, 1)

    def target_variance(density, noise: Noise) -> float:
        """Of lambda |s - target|^2 in units in which the score is of order 1."""
        t, _ = density(sde, noise.stratified(0))
        eps = noise.normal(x0, 1)
        xt, sigma = sde.perturb(x0, t, eps), sde.sigma(t)[:, None]
        return float(((truth.score(xt, t) + eps / sigma) ** 2).mean())

    noise = Noise.per_batch(0, n)
    excess = [target_variance(OneLevel(s), noise) for s in (0.1, 0.01)]
    assert excess[1] / excess[0] == pytest.approx(100, rel=0.02)
    assert excess[1] == pytest.approx(1e4, rel=0.1)
    losses = DenoisingScoreMatching(Levels(10))(truth, x0, noise=noise)
    assert float(losses.std()) < 1.0


def test_an_adaptive_density_becomes_proportional_to_the_loss_and_leaves_the_objective_as_it_is():
    """The optimal denoiser of N(0, v) has the integrand v SNR / (1 + v SNR): p follows it, but for its even tenth."""
    sde, n, density = VP(), 20_000, AdaptiveLogSNR(20)
    model, x0 = gaussian(sde, torch.zeros(1), torch.full((1,), 0.5)), math.sqrt(0.5) * normals(n, 1)
    objective = DenoisingScoreMatching(density, LikelihoodWeight())
    first = objective(model, x0, noise=Noise.per_batch(0, n))
    density.learn(lambda seen: seen, n)
    second = objective(model, x0, noise=Noise.per_batch(1, n))
    low, high = (float(sde.log_snr(torch.tensor(t, dtype=torch.float64))) for t in (sde.T, sde.t_min))
    exact = 0.5 * (math.log1p(0.5 * math.exp(high)) - math.log1p(0.5 * math.exp(low)))
    assert within(first, exact) and within(second, exact)
    assert float(second.var()) < 0.8 * float(first.var())
    middle = low + (high - low) * (torch.arange(20) + 0.5) / 20
    wanted = torch.sigmoid(middle + math.log(0.5)).double()
    wanted = 0.9 * wanted / wanted.sum() + 0.1 / 20
    torch.testing.assert_close(density.shares(), wanted, rtol=0.1, atol=0.003)


def test_nothing_is_learnt_without_gradients():
    density = AdaptiveLogSNR()
    objective = DenoisingScoreMatching(density, LikelihoodWeight())
    with torch.no_grad():
        objective(small(VP()), normals(4, 2), noise=Noise.per_batch(0, 4))
    assert not bool(density.seen.any())


def plain() -> PlainScore:
    with seeded(0):
        return PlainScore(MLP((2,), features=8, blocks=1))


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (lambda: SlicedScoreMatching(projections=0), ValueError, "got 0"),
        (lambda: Levels(1), ValueError, "got 1"),
        (lambda: OneLevel(-1.0), ValueError, "got -1"),
        (lambda: OneLevel(1e9)(VP(), torch.zeros(1)), ValueError, "lies in"),
        (lambda: Simulated(0), ValueError, "got 0"),
        (lambda: AdaptiveLogSNR(0), ValueError, "got 0"),
        (lambda: DenoisingScoreMatching(AdaptiveLogSNR()), ValueError, "take LikelihoodWeight"),
        (lambda: Perturbed(AdaptiveLogSNR()), ValueError, "DenoisingScoreMatching alone"),
        (lambda: ScoreNetwork(MLP((2,)), VP(), diffusion=0.0), ValueError, "got 0"),
        (
            lambda: DenoisingScoreMatching()(plain(), torch.zeros(2, 2), noise=Noise.per_batch(0, 2)),
            TypeError,
            "SlicedScoreMatching or PathTarget",
        ),
        (
            lambda: SlicedScoreMatching(Clean())(small(VP()), normals(2, 2), noise=Noise.per_batch(0, 2)),
            ValueError,
            "PlainScore",
        ),
    ],
)
def test_errors_say_what_was_got_and_what_was_wanted(wrong, kind, message):
    with seeded(0), pytest.raises(kind, match=message):
        wrong()


def test_a_plain_score_is_trained_on_the_data_by_default():
    """Not on states of its still process, which have no weight."""
    model, x0, noise = plain(), normals(4, 2).float(), Noise.per_batch(0, 4)
    one, other = (SlicedScoreMatching(states)(model, x0, noise=noise).detach() for states in (None, Clean()))
    assert torch.equal(one, other)
    assert ImplicitScoreMatching()(awake_plain(), x0, noise=noise).unique().numel() == 4


def awake_plain() -> PlainScore:
    model = plain()
    awake(model.net)
    return model


def test_nothing_is_left_at_the_boundary_of_a_domain():
    """The uniform law of a reflected Brownian motion has the score 0: the loss of s = k (x - 1/2) is least at k = 0.

    Kills a weight that does not vanish at the boundary, whose minimum lies at k = -12.
    """
    n, sde = 20_000, ItoSDE(f=lambda x, t: 0 * x, g=lambda x, t: 0.5 + 0 * x, domain=(0.0, 1.0), T=0.5)
    x0 = torch.special.ndtr(normals(n, 1))

    class Slope(Linear):
        def score(self, x, t, **cond):
            return self.k * (x - 0.5)

    noise = Noise.per_batch(0, n)
    up, down = (
        ImplicitScoreMatching(Simulated(40))(Slope(sde, torch.tensor([k], dtype=torch.float64)), x0, noise=noise)
        for k in (0.1, -0.1)
    )
    slope = (up - down).detach() / 0.2
    assert abs(float(slope.mean())) < 4 * SIGMAS * float(slope.std()) / math.sqrt(n)
    assert float(slope.std()) / math.sqrt(n) < 0.002


@pytest.mark.parametrize("event", [(2,), (4,), (2, 3)], ids=str)
def test_a_process_of_your_own_may_write_t_beside_x(event):
    """Also for batches as large as the event, where a time for each sample would broadcast along the wrong axis."""
    sde = Warming()
    with seeded(0):
        model = ScoreNetwork(awake(MLP(event, features=8, blocks=1)), sde)
    x0, noise = normals(4, *event).float(), Noise.per_batch(0, 4)
    losses = SlicedScoreMatching(Simulated(5))(model, x0, noise=noise)
    assert losses.dtype == torch.float32
    times = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    each = model.score(x0, times)
    for k in range(4):
        torch.testing.assert_close(each[k], model.score(x0, times[k])[k], rtol=1e-5, atol=1e-5)
    PathTarget(20)(model, x0, noise=noise)


def test_the_bound_of_the_divergence_is_its_closed_form():
    """N(0, 1) as a model of N(0, v):  1/2 int g^2 E|s - s*|^2 dt = KL(p_tmin || N(0, ...)) + KL at T. Kills a factor 2.

    With both marginals normal, d KL / dt = -1/2 g^2 E|s - s*|^2.
    """
    sde, n, v = VP(), 200_000, 0.4
    model, truth = (gaussian(sde, torch.zeros(1), torch.tensor([s])) for s in (1.0, v))
    x0 = math.sqrt(v) * normals(n, 1)
    values = kl_bound(model, truth, x0, noise=Noise.per_batch(0, n))

    def divergence(t: float) -> float:
        (knot,) = sde.knots([t])
        p, q = (knot.alpha**2 * s + knot.sigma**2 for s in (v, 1.0))
        return 0.5 * (p / q - 1 - math.log(p / q))

    exact = divergence(sde.t_min) - divergence(sde.T)
    assert within(values, exact) and float(values.std()) / math.sqrt(n) < 0.01 * exact


def test_simulated_states_are_those_of_the_chain_at_their_times():
    """dx = -2 x dt + 0.7 (1 + t) dw against its recursion, weights t g^2. Kills h for sqrt(h), stops off by one."""
    n, steps = 6, 12
    sde = ItoSDE(f=lambda x, t: -2 * x, g=lambda x, t: 0.7 * (1 + t), T=1.5)
    x0, noise = normals(n, 2), Noise.per_batch(4, n)
    drawn = Simulated(steps)(Linear(sde, torch.ones(2, dtype=torch.float64)), x0, noise)
    times = [1.5 * (k / steps) ** 2 for k in range(steps + 1)]
    z = noise.normal(x0.new_empty(n, steps, 2), draw=1)
    for row, t in enumerate(drawn.t.tolist()):
        x = x0[row]
        for k in range(times.index(t)):
            h = times[k + 1] - times[k]
            x = (1 - 2 * h) * x + 0.7 * (1 + times[k]) * math.sqrt(h) * z[row, k]
        torch.testing.assert_close(drawn.x[row].detach(), x, rtol=1e-12, atol=1e-12)
        assert float(drawn.weight[row].max().detach()) == pytest.approx(t * (0.7 * (1 + t)) ** 2, rel=1e-12)
    assert len(set(drawn.t.tolist())) == n


def test_a_fresh_score_network_is_the_score_of_the_law_at_rest():
    """2 f / g^2 of the double well, 3 / x - 4 of Cox-Ingersoll-Ross. Kills f for 2 f, and a missing slope of g^2."""
    x, t = normals(5, 2).exp().float(), torch.tensor(0.3, dtype=torch.float64)
    with seeded(0):
        well, root = (
            ScoreNetwork(MLP((2,)), sde)
            for sde in (
                ItoSDE(f=lambda x, t: x - x**3, g=lambda x, t: 0.5),
                ItoSDE(f=lambda x, t: 2 * (1 - x), g=lambda x, t: x.sqrt(), domain=(1e-4, math.inf)),
            )
        )
    torch.testing.assert_close(well.score(x, t).detach(), 8 * (x - x**3))
    torch.testing.assert_close(root.score(x, t).detach(), 3 / x - 4, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("domain", "ends"), [((0.0, 2.0), [0.0, 2.0]), ((0.0, math.inf), [0.0]), ((-math.inf, 1.0), [1.0])]
)
def test_weights_vanish_at_the_boundary_with_their_slope(domain, ends):
    sde = ItoSDE(lambda x, t: x, lambda x, t: x, domain=domain)
    x = torch.tensor([ends], dtype=torch.float64).requires_grad_()
    value = sde.inside(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert not bool(value.any()) and not bool(slope.any())
    middle = torch.tensor([[1.0 if len(ends) == 2 else ends[0] + (5.0 if ends[0] == 0 else -5.0)]], dtype=torch.float64)
    assert float(sde.inside(middle)) == pytest.approx(1.0)
