"""Flow maps against the closed form of normal data, and what a denoiser keeps when it becomes one."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.processes import PROCESSES, Straight, name
from torch import Tensor

from scorefield import (
    VP,
    EDMPrecond,
    FlowMap,
    LinearSDE,
    Noise,
    Preconditioned,
    gaussian,
    gaussian_map,
    grids,
    integrate,
    sample,
)
from scorefield.certify import output_law
from scorefield.nn import MLP, NCSN, EDM2UNet, NCSNpp, UNet, seeded
from scorefield.objectives import DenoisingScoreMatching, PathRegression
from scorefield.score import Denoiser, LevelMap
from scorefield.solvers import Heun, Jump

ALL = [*PROCESSES, LinearSDE(lambda t: -0.3 - t, lambda t: 1 + 0.5 * t, T=2.0)]
every = pytest.mark.parametrize("sde", ALL, ids=name)
MEAN, VARIANCES = torch.tensor([0.5, -1.0, 0.2]).double(), torch.tensor([0.0, 0.3, 4.0]).double()


def states(sde, n: int = 5, seed: int = 0) -> Tensor:
    (knot,) = sde.knots([sde.t_start])
    return knot.size * Noise.per_sample(range(seed, seed + n)).normal(torch.zeros(n, 3).double())


def between(sde, share: float) -> Tensor:
    """A time by its share of the log-SNR's range."""
    low, high = sde.log_snr(torch.tensor([sde.t_start, sde.t_end]).double())
    return sde.time(low + share * (high - low))


def close(a: Tensor, b: Tensor, rtol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * float(b.abs().max()))


@every
def test_the_exact_map_follows_the_flow(sde):
    """Its derivative by the level at the end is the denoiser's slope, dX/dq = (X - D(X, q)) / q."""
    exact, x = gaussian_map(sde, MEAN, VARIANCES), states(sde)
    t, to = between(sde, 0.1), between(sde, 0.6).requires_grad_()
    there = exact.jump(x, t, to) / sde.alpha(to)
    q = sde.sigma(to) / sde.alpha(to)
    slopes = torch.stack([torch.autograd.grad(y, to, retain_graph=True)[0] for y in there.flatten()])
    (dq,) = torch.autograd.grad(q, to)
    wanted = (there - exact(exact.jump(x, t, to), to)) / q
    close((slopes / dq).reshape(there.shape), wanted.detach(), 1e-8)


@every
def test_aims_and_jumps_are_one_function(sde):
    exact, x = gaussian_map(sde, MEAN, VARIANCES), states(sde)
    t = between(sde, 0.1)
    for share in (0.1, 0.3, 0.9, math.inf):
        to = torch.tensor(0.0).double() if share == math.inf else between(sde, share)
        there, q = (torch.ones(()), 0.0) if share == math.inf else (sde.alpha(to), sde.sigma(to) / sde.alpha(to))
        r = q * sde.alpha(t) / sde.sigma(t)
        close(there * (q / sde.sigma(t) * x + (1 - r) * exact.aim(x, t, to)), exact.jump(x, t, to), 1e-11)
    close(exact.aim(x, t, t), exact(x, t), 1e-11)


@every
def test_jumps_compose(sde):
    exact, x = gaussian_map(sde, MEAN, VARIANCES), states(sde)
    t, middle, end = between(sde, 0.0), between(sde, 0.5), between(sde, 0.8)
    close(exact.jump(exact.jump(x, t, middle), middle, end), exact.jump(x, t, end))


@every
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_jumps_are_certified(sde, steps):
    """From the exact marginal the law is the data's; from the prior its push-forward, by the ratio of the spreads."""
    v = torch.tensor([0.01, 0.3, 1.0, 4.0]).double()
    law = output_law(Jump(), grids.uniform_log_snr(sde, steps), sde, v)
    close(law.std, v.sqrt())
    exact, seeds = gaussian_map(sde, torch.zeros(4), v), range(200)
    x = sample(exact, (4,), grids.uniform_log_snr(sde, steps), Jump(), seeds=seeds)
    start = sde.prior.sample(torch.zeros(200, 4).double(), Noise.per_sample(seeds))
    (knot,) = sde.knots([sde.T])
    wanted = start * (v / (knot.alpha**2 * v + knot.sigma**2)).sqrt()
    close(x, wanted, 2e-6 if sde.t_start < sde.T else 1e-10)


def test_a_mixture_has_no_closed_map():
    with pytest.raises(TypeError, match="Jump is for a flow map, as `scorefield distil` makes; got GaussianMixture"):
        sample(gaussian(VP(), MEAN, VARIANCES), (3,), [1.0, 0.0], Jump(), seeds=[0])


def test_jumps_lead_to_the_data_alone():
    exact = gaussian_map(VP(), MEAN, VARIANCES)
    with pytest.raises(ValueError, match="Jump runs from noise to data only"):
        integrate(exact, states(VP()), [0.1, 0.5], Jump(), noise=Noise.per_sample(range(5)))
    model = learnt(VP())
    with pytest.raises(ValueError, match="leads towards the data alone"):
        model.jump(states(VP()).float(), 0.1, 0.5)


def learnt(sde, guidance: float | None = None) -> FlowMap:
    """A flow map of a small network with weights that are not 0."""
    with seeded(3):
        net = MLP((3,), 4, 16, 1)
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.3)
    names = ("target",) if guidance is None else ("target", "guidance")
    return FlowMap(Preconditioned(net.told(*names, seed=0), sde, EDMPrecond(0.7)), guidance)


def untold(model: FlowMap) -> Preconditioned:
    """The denoiser that it was."""
    with seeded(0):
        net = MLP((3,), 4, 16, 1)
    net.load_state_dict({k: v for k, v in model.denoiser.net.state_dict().items() if "scalars" not in k})
    return Preconditioned(net, model.sde, model.denoiser.precond)


NETWORKS = {
    "MLP": lambda: MLP((3, 8, 8), 5, 16, 1),
    "UNet": lambda: UNet((3, 8, 8), 5, (8, 16), 1),
    "NCSNpp": lambda: NCSNpp((3, 8, 8), 5, 8, (8, 16), 1, (False, True)),
    "NCSNpp, positional": lambda: NCSNpp((3, 8, 8), 5, 8, (8,), 1, (False,), None, label_last=True),
    "EDM2UNet": lambda: EDM2UNet((3, 8, 8), 5, (8, 16), 1, (False, True), 8),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_that_is_told_more_says_the_same(kind):
    """To the bit, whatever the numbers are; and their layers get gradients."""
    with seeded(1):
        net = NETWORKS[kind]()
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.2)
    net = net.eval()
    told = net.told("target", "guidance", seed=0).eval()
    x, noise = Noise.per_sample(range(4)).normal(torch.zeros(4, 3, 8, 8)), torch.linspace(-1, 1, 4)
    label, numbers = torch.tensor([0, -1, 4, 2]), torch.linspace(0, 1, 4)
    wanted = net(x, noise, label=label)
    assert wanted.std() > 1e-3
    assert torch.equal(told(x, noise, label=label, target=numbers, guidance=torch.tensor(0.3)), wanted)
    told(x, noise, label=label, target=numbers, guidance=numbers).square().sum().backward()
    new = {n for n, _ in told.named_parameters()} - {n for n, _ in net.named_parameters()}
    outer = [p for n, p in told.named_parameters() if n in new and p.grad is not None and p.grad.abs().max() > 0]
    assert len(outer) == 2  # the layers at 0; those before them wait for these
    with pytest.raises(ValueError, match=r"is told the numbers target, guidance; got none"):
        told(x, noise, label=label)
    with pytest.raises(ValueError, match=r"is told the numbers none; got target"):
        net(x, noise, label=label, target=numbers)


def test_other_networks_cannot_be_told():
    with seeded(0):
        ncsn, mlp = NCSN((1, 8, 8), 0, (4, 8, 8)), MLP((3,))
    with pytest.raises(TypeError, match="NCSN cannot be told further numbers: take an MLP, UNet"):
        ncsn.told("target", seed=0)
    with pytest.raises(ValueError, match="is told target already"):
        mlp.told("target", seed=0).told("target", seed=0)


@every
def test_a_map_is_the_denoiser_that_it_was(sde):
    """All views to the bit, under conditions as well."""
    model, x = learnt(sde), states(sde).float()
    plain, t = untold(model), between(sde, 0.4)
    for view in ("__call__", "score", "noise", "velocity"):
        assert torch.equal(getattr(model, view)(x, t), getattr(plain, view)(x, t)), view
    given, label = model.given(label=2), torch.tensor(2)
    assert isinstance(given, LevelMap)
    assert torch.equal(given.score(x, t), plain.score(x, t, label=label))
    assert torch.equal(given.jump(x, t, 0.0), model.jump(x, t, 0.0, label=label))
    assert torch.equal(given.aim(x, t, t), plain(x, t, label=label))
    assert torch.equal(
        given.select(torch.tensor([1, 3]), 5).jump(x[[1, 3]], t, 0.0), model.jump(x[[1, 3]], t, 0.0, label=label)
    )


def test_one_jump_from_where_alpha_is_0():
    sde, x = Straight(), Noise.per_sample(range(5)).normal(torch.zeros(5, 3).double())
    start = sde.sigma(torch.tensor(sde.T).double()) * x
    assert sde.alpha(torch.tensor(sde.T).double()) == 0
    exact = gaussian_map(sde, MEAN, VARIANCES)
    close(exact.jump(start, sde.T, 0.0), MEAN + VARIANCES.sqrt() * x)
    close(exact.aim(start, sde.T, 0.0), MEAN + VARIANCES.sqrt() * x)
    close(sample(exact, (3,), [sde.T, 0.0], Jump(), seeds=range(5)), MEAN + VARIANCES.sqrt() * x, 2e-6)
    assert learnt(sde).jump(start.float(), sde.t_start, 0.0).isfinite().all()


class Off(Denoiser):
    """The exact map with G + c (1 + r): a wrong one for c != 0."""

    def __init__(self, exact) -> None:
        super().__init__(exact.sde)
        self.exact, self.c = exact, torch.nn.Parameter(torch.zeros(()).double())

    def forward(self, x, t, **cond):
        return self.exact(x, t) + 2 * self.c

    def aim(self, x, t, to, **cond):
        return self.exact.aim(x, t, to) + self.c * (1 + x.sum(1, keepdim=True))

    def jump(self, x, t, to, **cond):
        raise NotImplementedError


@every
@pytest.mark.parametrize("share", [0.0, 1.0], ids=["any pair", "the denoiser alone"])
def test_paths_of_an_exact_teacher_are_learnt_by_the_exact_map(sde, share):
    """The loss and its gradient vanish there, 1e-10 of what they are beside it."""
    exact = gaussian_map(sde, MEAN, VARIANCES)
    times = grids.uniform_log_snr(sde, 6)
    objective = PathRegression(exact, Jump(), times, pairs=8, ending=0.3 * (1 - share), same=share or 0.2)
    model, x0 = Off(exact), MEAN + VARIANCES.sqrt() * states(VP(), 16)
    noise = Noise.per_batch(0, 16)
    loss = objective(model, x0, noise=noise).sum()
    (gradient,) = torch.autograd.grad(loss, model.c)
    model.c.data += 0.1
    beside = objective(model, x0, noise=noise).sum()
    (slope,) = torch.autograd.grad(beside, model.c)
    assert loss < 1e-10 * beside
    assert gradient.abs() < 1e-10 * slope.abs()
    assert beside > 1e-3


def test_a_path_of_a_solver_is_learnt_as_it_is():
    """The minimiser is the map of the solver, not that of the exact flow: Heun's, in two long steps."""
    sde = VP()
    exact = gaussian_map(sde, MEAN, VARIANCES)
    times = [1.0, 0.4, 0.0]
    objective = PathRegression(exact, Heun(), times, pairs=1, early=1.0, ending=1.0, same=0.0)
    x0, noise = MEAN + VARIANCES.sqrt() * states(sde, 16), Noise.per_batch(0, 16)
    knots = objective._knots(sde, noise.shared(0))
    start = sde.perturb(x0, torch.tensor(1.0).double(), noise.normal(x0, draw=1))
    end = integrate(exact, start, [k.t for k in knots], Heun(), noise=Noise.per_sample(range(16)))

    class Ends(Off):
        def aim(self, x, t, to, **cond):
            return end

    assert objective(Ends(exact), x0, noise=noise).max() < 1e-20
    assert objective(Off(exact), x0, noise=noise).min() > 1e-4


def test_the_grid_moves_between_its_neighbours():
    """Over the draws each inner level covers half a gap either way, and the ends stay."""
    sde = VP()
    objective = PathRegression(gaussian_map(sde, MEAN, VARIANCES), Jump(), grids.uniform_log_snr(sde, 5))
    grid = [k.log_snr for k in sde.knots(objective.times[:-1])]
    for u, share in ((0.0, -0.5), (0.5, 0.0), (1.0, 0.5)):
        moved = [k.log_snr for k in objective._knots(sde, u)]
        assert moved[0] == grid[0] and moved[-1] == math.inf
        for k in (1, 2, 3):
            assert moved[k] == pytest.approx(grid[k] + share * (grid[k + 1] - grid[k]), rel=1e-9)


def test_shares_of_pairs():
    """400,000 pairs; the bounds are 6 standard errors, a false alarm in 1e-8. Mutant: `early` for `ending`."""
    objective = PathRegression(
        gaussian_map(VP(), MEAN, VARIANCES), Jump(), [1.0, 0.5, 0.2, 0.0], early=0.25, ending=0.4, same=0.1
    )
    u = Noise.per_sample(range(1000)).uniform(torch.empty(1000, 400, 4))
    i, j = objective._pairs(3, u)
    assert bool((i <= j).all()) and int(i.max()) == 2 and int(j.max()) == 3
    n = len(i)
    for found, wanted in (
        ((i == 0), 0.25 + 0.75 / 3),
        ((i == 2), 0.25),
        ((i == j), 0.1),
        (((i == 0) & (j == 3)), 0.5 * (0.4 + 0.5 / 3)),
        (((i == 0) & (j == 1)), 0.5 * 0.5 / 3),
    ):
        assert abs(float(found.double().mean()) - wanted) < 6 * math.sqrt(wanted * (1 - wanted) / n)


def test_parts_of_a_batch_have_the_same_paths():
    """Each row's loss is its own, whichever process computes it."""
    sde, model = VP(), learnt(VP()).double()
    objective = PathRegression(gaussian_map(sde, MEAN, VARIANCES), Jump(), grids.uniform_log_snr(sde, 5))
    x0, label = states(sde, 6), torch.tensor([0, 1, 2, 3, 0, -1])

    for teacher in (objective.teacher, learnt(sde).double()):
        known = {"label": label} if isinstance(teacher, FlowMap) else {}
        objective = PathRegression(teacher, Heun() if known else Jump(), grids.uniform_log_snr(sde, 5))
        if not known:
            model = Off(objective.teacher)
            model.c.data += 0.1
        whole = objective(model, x0, noise=Noise.per_batch(3, 6).at(2), **known)
        parts = [
            objective(
                model,
                x0[rows],
                noise=Noise.per_batch(3, 6, rows).at(2),
                **{k: v[rows] for k, v in known.items()},
            )
            for rows in ([0, 1, 2, 3], [4, 5])
        ]
        close(torch.cat(parts).detach(), whole.detach(), 1e-10)


def test_a_map_of_weights_of_guidance():
    model, x = learnt(VP(), guidance=5.0), states(VP()).float()
    assert torch.equal(model(x, 0.5), model(x, 0.5, guidance=torch.tensor(1.0)))
    model.jump(x, 0.5, 0.0, guidance=torch.full((5,), 5.0))
    for wrong in (0.9, 5.1, torch.tensor([1.0, 2.0, 3.0, 4.0, 6.0])):
        with pytest.raises(ValueError, match=r"was trained for weights of guidance from 1 to 5; got"):
            model.given(guidance=wrong).jump(x, 0.5, 0.0)
    with pytest.raises(ValueError, match="was not trained with weights of guidance"):
        learnt(VP())(x, 0.5, guidance=torch.tensor(2.0))
    with pytest.raises(ValueError, match="must be above 1; got 1"):
        learnt(VP(), guidance=1.0)


def test_what_paths_refuse():
    exact = gaussian_map(VP(), MEAN, VARIANCES)
    with pytest.raises(TypeError, match="PathRegression trains flow maps; got GaussianMixture"):
        PathRegression(exact, Jump(), [1.0, 0.0])(exact.law, states(VP()), noise=Noise.per_batch(0, 5))
    with pytest.raises(ValueError, match="shares of the pairs"):
        PathRegression(exact, Jump(), [1.0, 0.0], ending=0.7, same=0.4)


def test_denoising_is_an_objective_of_a_map():
    """At q = s it is the denoiser's own."""
    model, x0 = learnt(VP()), states(VP(), 8).float()
    objective = DenoisingScoreMatching.edm(0.7)
    plain = untold(model)
    noise = Noise.per_batch(0, 8)
    torch.testing.assert_close(
        objective(model, x0, noise=noise), objective(plain, x0, noise=noise), rtol=1e-4, atol=1e-4
    )
