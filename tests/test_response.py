"""Solvers that break the rules of a certificate are refused with what they do; right ones of any make are not.

Every wrong solver is a right one whose states or noise are tampered with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefield import VP, gaussian, grids, network_calls, sample
from scorefield._noise import Noise
from scorefield.certify import Uncertified, certify, chain_law, natural_spectrum, output_law
from scorefield.solvers import DDIM, Ancestral, Langevin, Solver, Step

pytestmark = pytest.mark.usefixtures("unchecked")

SDE = VP()
FOUR = torch.tensor([0.1, 1.0, 2.0, 3.0])
Change = Callable[[Tensor], Tensor]


class Tampered(Solver):
    """A solver whose output, or the noise that it draws, is changed."""

    convergence_order = 1

    def __init__(self, solver: Solver, output: Any = None, normal: Any = None) -> None:
        self.solver, self.output, self.normal = solver, output, normal
        self.memory: dict[Any, Any] = {}

    def step(self, model, x, now, next, state, *, noise):  # type: ignore[no-untyped-def]
        source = noise if self.normal is None else _Drawn(noise, self.normal)
        y = self.solver.step(model, x, now, next, None, noise=source).x
        return Step(y if self.output is None else self.output(y, self.memory))


class _Drawn:
    """Noise whose normals another function draws."""

    def __init__(self, noise: Any, function: Any) -> None:
        self.noise, self.function = noise, function

    def normal(self, like: Tensor, draw: int = 0) -> Tensor:
        return self.function(self.noise, like)


def output(change: Change, solver: Solver | None = None) -> Tampered:
    return Tampered(solver or DDIM(), output=lambda y, memory: change(y))


def remembering(change: Callable[[Tensor, dict], Tensor]) -> Tampered:
    return Tampered(DDIM(), output=change)


def noise(function: Callable[[Any, Tensor], Tensor]) -> Tampered:
    return Tampered(Ancestral(), normal=function)


def along(y: Tensor, values: Tensor) -> Tensor:
    """Values for the rows of y."""
    return values.to(y).reshape(-1, *[1] * (y.ndim - 1))


def last_difference(y: Tensor, memory: dict) -> Tensor:
    """A multistep method that keeps its past itself, if it seems to be of the same batch."""
    last = memory.get("y", y)
    memory["y"] = y
    return y + 0.1 * (y - last) if last.shape == y.shape else y


def last_of_shape(y: Tensor, memory: dict) -> Tensor:
    last, memory[y.shape] = memory.get(y.shape, y), y
    return y + 0.1 * (y - last)


def calls(y: Tensor, memory: dict) -> Tensor:
    memory["calls"] = memory.get("calls", 0) + 1
    return y * (1 + 1e-6 * memory["calls"])


def warm(y: Tensor, memory: dict) -> Tensor:
    """Other steps in the first call, which has 14."""
    return calls(y, memory) if memory.get("calls", 0) < 14 else y


def in_pairs(source: Any, like: Tensor) -> Tensor:
    """Antithetic noise, in batches that have pairs."""
    z = source.normal(like)
    return torch.cat((z[::2], -z[::2])) if len(z) % 2 == 0 else z


def in_groups(size: int) -> Tampered:
    """One noise for so many rows, in batches of a multiple of them."""
    return noise(
        lambda n, like: n.normal(like)[torch.arange(len(like)) // size * size if len(like) % size == 0 else ...]
    )


def shared(apart: Callable[[int], bool], change: Change) -> Tampered:
    """Noise that is changed in some of the steps."""
    return noise(lambda n, like: n.normal(like) if apart(n.step) else change(n.normal(like)).expand_as(like))


BATCH, COMPONENTS, LINEAR = "depends on its batch", "depends on other components", "not a linear function of each"
MEMORY = "it remembers, or draws by other means"
WRONG = {
    "mean of the batch": (output(lambda y: y - 0.5 * (y - y.mean(0))), BATCH),
    "mean of the batch, with noise": (output(lambda y: y - 0.5 * (y - y.mean(0)), Ancestral()), BATCH),
    "norm of the batch": (output(lambda y: y * (1 + 1e-6 * y.norm())), BATCH),
    "number of rows": (output(lambda y: y * (1 + 1 / len(y))), BATCH),
    "place in the batch": (output(lambda y: y * along(y, 1 + 0.1 * torch.arange(len(y)))), BATCH),
    "first row": (output(lambda y: torch.cat((0.9 * y[:1], y[1:]))), BATCH),
    "last row": (output(lambda y: torch.cat((y[:-1], 0.9 * y[-1:]))), BATCH),
    "rows in order": (output(lambda y: y.sort(0).values), BATCH),
    "rows permuted": (output(lambda y: y.roll(1, 0)), BATCH),
    "rows permuted in their noise": (noise(lambda n, like: n.normal(like).roll(1, 0)), BATCH),
    "row 20 and later ones": (output(lambda y: y * along(y, 1 + 0.1 * (torch.arange(len(y)) >= 20))), BATCH),
    "a single row": (output(lambda y: 0.9 * y if len(y) == 1 else y), BATCH),
    "mean of large batches": (output(lambda y: y.mean(0).expand_as(y) if len(y) > 32 else y), BATCH),
    "switch for the whole batch": (output(lambda y: y if y.abs().max() > 50 else 0.5 * y), BATCH),
    "noise in threes": (in_groups(3), BATCH),
    "noise in fours": (in_groups(4), BATCH),
    "one noise for all rows in the last step": (shared(lambda k: k < 13, lambda z: z[:1]), BATCH),
    "one noise for all components in even steps": (shared(lambda k: k % 2 == 1, lambda z: z[:, :1]), COMPONENTS),
    "past of another call of this shape": (remembering(last_of_shape), MEMORY),
    "one noise for all rows": (noise(lambda n, like: n.normal(like)[:1].expand_as(like)), BATCH),
    "noise of one row": (noise(lambda n, like: n.normal(like[:1])), r"noise of shape \(1, 4\) for states of shape \(5"),
    "noise in pairs of rows": (noise(in_pairs), BATCH),
    "one noise for all components": (noise(lambda n, like: n.normal(like)[:, :1].expand_as(like)), COMPONENTS),
    "mean noise": (noise(lambda n, like: 2 * n.normal(like).mean(1, keepdim=True).expand_as(like)), COMPONENTS),
    "noise of one component": (noise(lambda n, like: n.normal(like[:, :1])), r"noise of shape \(5, 1\) for states"),
    "noise of other components": (noise(lambda n, like: n.normal(like).flip(1)), COMPONENTS),
    "mean of the event": (output(lambda y: y + 0.1 * y.mean(1, keepdim=True)), COMPONENTS),
    "other components": (output(lambda y: y.roll(1, 1)), COMPONENTS),
    "convolution": (output(lambda y: 0.9 * y + 0.1 * y.roll(1, 1)), COMPONENTS),
    "norm of the event": (output(lambda y: y * (1 + 1e-6 * y.norm(dim=1, keepdim=True))), LINEAR),
    "components in order": (output(lambda y: y.sort(1).values), COMPONENTS),
    "far limits": (output(lambda y: y.clamp(-50, 50)), LINEAR),
    "soft threshold": (output(lambda y: torch.where(y.abs() < 1e-3, 0, y)), LINEAR),
    "positive part": (output(lambda y: y.relu()), LINEAR),
    "rounding": (output(lambda y: y.float().double()), LINEAR),
    "constant": (output(lambda y: y + 1e-3), "moves a state of 0 without noise by 0.0"),
    "past of another call": (remembering(last_difference), MEMORY),
    "mean of its first call": (
        remembering(lambda y, m: y - 0.1 * m.setdefault("mean", y.mean())),
        "moves a state of 0",
    ),
    "number of calls": (remembering(calls), MEMORY),
    "first call": (remembering(warm), MEMORY),
    "last row of even batches": (
        noise(lambda n, like: torch.cat((n.normal(like)[:-1], n.normal(like)[-1:] * (len(like) % 2)))),
        BATCH,
    ),
    "draws of larger batches": (noise(lambda n, like: n.child(len(like) // 6).normal(like)), "what it draws depends"),
    "global generator": (noise(lambda n, like: torch.rand_like(like)), MEMORY),
    "noise of a seed": (noise(lambda n, like: like.new_ones(like.shape)), "moves a state of 0"),
    "draws that depend on the states": (noise(lambda n, like: n.child(int(like.sum() > 0)).normal(like)), BATCH),
    "noise of another kind": (
        noise(lambda n, like: n.rademacher(like)),
        "it fails on states of shape .5, 4.*rademacher",
    ),
    "events of another shape": (
        output(lambda y: y.mean((2, 3), keepdim=True)),
        r"fails on states of shape .5, 4.*IndexE",
    ),
    "another precision": (output(lambda y: y.float()), "makes torch.float32 of shape"),
    "infinite states": (output(lambda y: y * 1e200), "infinite or NaN"),
}


def test_states_of_another_shape_are_refused() -> None:
    with torch.random.fork_rng(), pytest.raises(ValueError, match=r"events of shape .*; got \(1, 4"):
        output_law(output(lambda y: y[:, None]), grids.uniform_log_snr(SDE, 15), SDE, FOUR)


@pytest.mark.parametrize("name", WRONG)
def test_what_a_certificate_cannot_see_is_refused(name: str) -> None:
    solver, reason = WRONG[name]
    with torch.random.fork_rng(), pytest.raises(Uncertified, match=rf"cannot be certified: .*({reason})"):
        output_law(solver, grids.uniform_log_snr(SDE, 15), SDE, FOUR)


def image(y: Tensor) -> Tensor:
    """Nothing, by way of what solvers of images do."""
    mean, first = y.mean((2, 3), keepdim=True), y[:, :1, 0, 0]
    return y + mean - mean + (first - first)[..., None, None]


RIGHT = {
    "one channel": (output(lambda y: torch.cat((y[:, :1], y[:, 1:]), 1)), DDIM(), FOUR),
    "flat": (output(lambda y: y.flatten(1).reshape(y.shape)), DDIM(), FOUR),
    "in place": (noise(lambda n, like: n.normal(like).mul_(2).div_(2)), Ancestral(), FOUR),
    "split": (output(lambda y: torch.cat([row[None] for row in y])), DDIM(), FOUR),
    "so many channels": (output(lambda y: torch.stack([y[:, k] for k in range(3)], 1)), DDIM(), torch.ones(3, 2, 2)),
    "components of this number": (output(lambda y: y.reshape(len(y), 2, 3).reshape(y.shape)), DDIM(), torch.ones(6)),
    "image": (output(image), DDIM(), torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)) + 0.1),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_solvers_of_any_make_are_certified(name: str) -> None:
    """The parent's certificate, and that of `certify`; events of shape () and (1,) broke solvers that look at one."""
    solver, same, v = RIGHT[name]
    found, wanted = (certify(s, SDE, v, budgets=(5,)) for s in (solver, same))
    assert found.budgets == (5,) and found.order == pytest.approx(wanted.order, rel=1e-6)
    for law, other in zip(found.laws, wanted.laws, strict=True):
        assert law.std.shape == v.shape
        torch.testing.assert_close(law, other, rtol=1e-9, atol=1e-12)


def test_components_of_an_event_are_those_of_a_vector() -> None:
    v, times = natural_spectrum(12), grids.uniform_log_snr(SDE, 10)
    flat, shaped = (output_law(Ancestral(), times, SDE, u) for u in (v, v.reshape(2, 3, 2)))
    assert torch.equal(shaped.std.flatten(), flat.std) and shaped.error == pytest.approx(flat.error, rel=1e-12)


def test_calls_are_counted_for_solvers_that_look_at_an_event() -> None:
    times = grids.uniform_log_snr(SDE, 7)
    assert network_calls(SDE, times, RIGHT["one channel"][0]) == 7
    assert network_calls(SDE, times, RIGHT["image"][0], (1, 2, 2)) == 7


@pytest.mark.parametrize("name", ["one noise for all components", "mean of the event", "noise of one component"])
def test_a_single_variance_does_not_hide_what_components_share(name: str) -> None:
    with pytest.raises(Uncertified):
        output_law(WRONG[name][0], grids.uniform_log_snr(SDE, 15), SDE, torch.ones(1))


@pytest.mark.parametrize("solver", [noise(in_pairs), in_groups(3), in_groups(4)])
def test_batches_of_many_draws_are_a_multiple_of_groups(solver: Solver) -> None:
    """The start, 60 draws and 5 rows are 66, which is none of 4; 68 is none of 3."""
    with pytest.raises(Uncertified, match=BATCH):
        output_law(solver, grids.uniform_log_snr(SDE, 61), SDE, FOUR)


def test_chains_are_examined_as_well() -> None:
    for output in (lambda y, _: y - 0.1 * (y - y.mean(0)), lambda y, _: y + 0.1 * y.mean(1, keepdim=True)):
        with pytest.raises(Uncertified, match="depends on"):
            chain_law(Tampered(Langevin(), output), 3, SDE, 0.4, FOUR)


@pytest.mark.parametrize("k", [0, 1])
def test_numbers_that_are_drawn_twice_are_counted_as_one(k: int) -> None:
    """x + z_k in each of n steps is x + n z_k; z_0 are the numbers of the start in `sample`, of which x is std z_0."""

    class Adding(Solver):
        convergence_order = 1
        reaches_data = True

        def step(self, model, x, now, next, state, *, noise):  # type: ignore[no-untyped-def]
            return Step(x + noise.at(k).normal(x))

    n, v, times = 10, FOUR.double(), grids.uniform_log_snr(SDE, 10)
    knot = SDE.knots(times)[0]
    start = (knot.alpha**2 * v + knot.sigma**2).sqrt()
    law = output_law(Adding(), times, SDE, v)
    torch.testing.assert_close(law.std, start + n if k == 0 else (start**2 + n**2).sqrt(), rtol=1e-12, atol=0)
    x = sample(gaussian(SDE, torch.zeros(4), v), (4,), times, Adding(), seeds=range(3))
    z = Noise.per_sample(range(3)).at(k).normal(x)
    x0 = SDE.prior.std * Noise.per_sample(range(3)).at(0).normal(x)
    torch.testing.assert_close(x, x0 + n * z)


def test_a_solver_of_a_value_for_each_sample_is_run_as_by_sample() -> None:
    class Each(Tampered):
        def select(self, rows: Tensor, n: int) -> Solver:
            return output(lambda y: y * along(y, 1 + 0.1 * (rows >= 3)))

    with pytest.raises(Uncertified, match=BATCH):
        output_law(Each(DDIM()), grids.uniform_log_snr(SDE, 15), SDE, FOUR)


def test_a_budget_at_which_a_solver_breaks_the_rules_is_not_left_out() -> None:
    class Impatient(Solver):
        convergence_order = 1

        def step(self, model, x, now, next, state, *, noise):  # type: ignore[no-untyped-def]
            y = DDIM().step(model, x, now, next, None, noise=noise).x
            return Step(y.mean(0).expand_as(y) if next.log_snr > now.log_snr + 2 else y)

    assert certify(Impatient(), SDE, budgets=(50,)).budgets == (50,)
    with pytest.raises(Uncertified, match=BATCH):
        certify(Impatient(), SDE, budgets=(5, 50))
