"""The gate that every fixed-grid method passes, and that every mutant of one must fail. No Monte Carlo."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from scorefield import EDM, VE, VP, GaussianSDE, Knot, SubVP, gaussian, grids, solvers
from scorefield._response import Source, silence, unit_vector
from scorefield.certify import measured_order, output_law, uneven_grid

PROCESSES: dict[str, GaussianSDE] = {"VP": VP(), "VE": VE(), "SubVP": SubVP(), "EDM": EDM()}
VARIANCES = torch.tensor([0.05, 0.3, 1.0, 3.0], dtype=torch.float64)
TOLERANCE = 0.25


def root_grid(sde: GaussianSDE, steps: int) -> list[float]:
    """Equal steps of (sigma / alpha)^(1/3) over the range of `uneven_grid`."""
    first, *_, last = (0.5 * k.log_snr for k in sde.knots(uneven_grid(sde, 2)))
    roots = torch.linspace(math.exp(-first / 3), math.exp(-last / 3), steps + 1, dtype=torch.float64)
    return sde.time(-6 * roots.log()).tolist()


@dataclass(frozen=True)
class Method:
    """A method for n steps, and what the gate may ask of it."""

    make: Callable[[int], solvers.Solver]
    eta: float | None = None  # if each step is to have the law of the reverse SDE with this eta
    order: int | None = None  # local order less 1 with an exact past, for multistep methods
    corrects: bool = False
    strong: float | None = None  # strong order, for methods that look at the path of the noise
    starts: bool = False  # only the start-up error shows the order: see `starting_order`


def methods() -> dict[str, Method]:
    """Every fixed-grid method of the package; classes are looked up when this is called."""
    s = solvers
    found: dict[str, Method] = {}
    for eta in (0.0, 0.5, 1.0):
        for name in ("EulerMaruyama", "Milstein", "ReverseDiffusion", "StochasticHeun", "SRA1", "ShARK"):
            strong = 1.5 if name in ("SRA1", "ShARK") and eta else None
            found[f"{name} {eta}"] = Method(lambda n, c=name, e=eta: getattr(s, c)(e), eta, strong=strong)
        found[f"two stages {eta}"] = Method(lambda n, e=eta: s.ExponentialTwoStage(e), eta)
        found[f"two stages at .7, {eta}"] = Method(lambda n, e=eta: s.ExponentialTwoStage(e, 0.7), eta)
        for order in (1, 2):
            found[f"DPM++ {order} {eta}"] = Method(lambda n, o=order, e=eta: s.DPMSolverPP(o, e), eta, order)
            for v in (0.7, math.inf):
                found[f"Adams {order} {eta} around {v}"] = Method(
                    lambda n, o=order, e=eta, v=v: s.ExponentialAdams(o, False, e, v), eta, order
                )
        found[f"SA {eta}"] = Method(lambda n, e=eta: s.SASolver(1, e, (0.0, math.inf)), eta, 1, corrects=eta == 0)
    found |= {
        "DDIM": Method(lambda n: s.DDIM(), 0.0, 1),
        "ancestral": Method(lambda n: s.Ancestral(), 1.0, 1),
        "Heun": Method(lambda n: s.Heun(), 0.0),
        "RK4": Method(lambda n: s.RK4(), 0.0),
        "Churn": Method(lambda n: s.Churn(gamma=4 / n)),
        "Restart": Method(lambda n: s.Restart(low=0.4, high=1.0, steps=n // 4)),
        "consistent annealed": Method(lambda n: s.ConsistentAnnealed(min(1.0, 14 / n))),
    }
    for order in (1, 2, 3, 4):
        found[f"UniPC {order}"] = Method(lambda n, o=order: s.UniPC(o), 0.0, order, corrects=True, starts=order >= 3)
        found[f"Adams {order} around .7"] = Method(
            lambda n, o=order: s.ExponentialAdams(o, True, 0.0, 0.7), 0.0, order, corrects=True, starts=order >= 3
        )
        for name in ("IPNDM", "DEIS", "LMS"):
            exact = None if name == "IPNDM" else order
            found[f"{name} {order}"] = Method(
                lambda n, c=name, o=order: getattr(s, c)(o), 0.0, exact, starts=order >= 3
            )
    found["DPM++ 3"] = Method(lambda n: s.DPMSolverPP(3), 0.0, 3, starts=True)
    return found


def failures(method: Method, processes: dict[str, GaussianSDE] = PROCESSES) -> list[str]:
    """What is wrong with a method; empty for a good one."""
    claimed, wrong = method.make(48).convergence_order, list[str]()
    for name, sde in processes.items():
        for grid in (uneven_grid, root_grid):
            if not method.starts:
                order = measured_order(method.make, sde, grid=grid, steps=20)
                if not abs(order - claimed) < TOLERANCE:
                    wrong.append(f"{name}, {grid.__name__}: order {order:.2f}, claimed {claimed}")
        if method.eta is not None:
            local = kernel_order(method.make(48), sde, method.eta)
            one_step = method.make(48).step(
                gaussian(sde, torch.zeros(1), torch.ones(1)), torch.ones(1, 1), *ends(sde, 0.1), None, noise=SILENT
            )
            needed = (claimed if one_step.state is None else 1) + 1
            if not local > needed - TOLERANCE:
                wrong.append(f"{name}: the law of a step errs by order {local:.2f} < {needed}")
        if method.strong is not None and method.eta is not None:
            local = path_order(method.make(48), sde, method.eta)
            if not local > method.strong + 0.5 - TOLERANCE:
                wrong.append(f"{name}: a step errs along the path by order {local:.2f} < {method.strong + 0.5}")
        if method.order is not None:
            local = exact_past_order(method.make(48), sde, corrected=False)
            if method.eta == 0 and not abs(local - method.order - 1) < TOLERANCE:
                wrong.append(f"{name}: local order {local:.2f}, wanted {method.order + 1}")
            if method.corrects:
                local = exact_past_order(method.make(48), sde, corrected=True)
                if not local > method.order + 1.5:  # at the steps that rounding allows it reads up to 0.7 too high
                    wrong.append(f"{name}: local order after the correction {local:.2f}, wanted {method.order + 2}")
    law = output_law(method.make(48), grids.uniform_log_snr(VP(), 48), VP(), torch.tensor([0.0]))
    if not float(law.std[0]) < 1e-4:  # 0.01 without the denoise step
        wrong.append(f"a point becomes a cloud of std {float(law.std[0]):.2g}")
    if method.starts:
        order = starting_order(method.make(48))
        if not abs(order - claimed) < TOLERANCE:
            wrong.append(f"order {order:.2f} from the first step, claimed {claimed}")
    return wrong


SILENT = Source({}, silence)


def ends(sde: GaussianSDE, h: float) -> tuple[Knot, Knot]:
    return sde.knot_at(-2 * (0.3 + h)), sde.knot_at(-2 * 0.3)


def kernel_order(solver: solvers.Solver, sde: GaussianSDE, eta: float) -> float:
    """Order of the error of one step's mean and variance given its start, the smaller of the two.

    With q = s^2 + v the reverse SDE of N(0, v) has the mean (q_b / q_a)^((1 + eta)/2) and the variance
    q_b (1 - (q_b / q_a)^eta), both of x / alpha. Marginal laws alone cannot see a wrong eta.
    """
    v = VARIANCES
    model = gaussian(sde, torch.zeros(4), v)

    def errors(h: float) -> Tensor:
        now, next = ends(sde, h)
        names: dict = {}
        solver.step(model, torch.zeros(1, 4, dtype=torch.float64), now, next, None, noise=Source(names, silence))
        x = torch.zeros(1 + len(names), 4, dtype=torch.float64)
        x[0] = now.alpha
        y = solver.step(model, x, now, next, None, noise=Source(names, unit_vector)).x / next.alpha
        q_a, q_b = ((knot.sigma / knot.alpha) ** 2 + v for knot in (now, next))
        ratio = q_b / q_a
        mean = (y[0] - ratio ** ((1 + eta) / 2)).norm()
        variance = (y[1:].square().sum(0) - q_b * (1 - ratio**eta)).norm()
        return torch.stack((mean, variance))

    coarse, fine = errors(0.1), errors(0.05)
    orders = torch.where(coarse < 1e-13, math.inf, (coarse / fine).log2())
    return float(orders.min())


def path_order(solver: solvers.Solver, sde: GaussianSDE, eta: float) -> float:
    """Order of the mean-square error of a step along a Brownian path, half a power above the strong order.

    The exact step is linear in dw(u) with the weight (q_b / q(u))^((1 + eta)/2) sqrt(2 eta) s(u); the method's, in the
    increment W = int dw and the area H = int ((b - u)/h - 1/2) dw, whose variances are h and h / 12.
    """
    v = VARIANCES
    model = gaussian(sde, torch.zeros(4), v)
    nodes, weights = (torch.from_numpy(a)[:, None] for a in np.polynomial.legendre.leggauss(20))
    place = 0.5 * (nodes + 1)

    def error(h: float) -> float:
        now, next = ends(sde, h)
        names: dict = {((0, (), draw)): draw for draw in (0, 1)}
        x = torch.zeros(3, 4, dtype=torch.float64)
        _, w, area = solver.step(model, x, now, next, None, noise=Source(names, unit_vector)).x / next.alpha
        s = now.sigma / now.alpha * (-h * place).exp()
        exact = (((next.sigma / next.alpha) ** 2 + v) / (s**2 + v)) ** ((1 + eta) / 2) * math.sqrt(2 * eta) * s
        made = w / math.sqrt(h) + area / math.sqrt(h / 12) * (0.5 - place)
        return float((0.5 * h * weights * (exact - made) ** 2).sum().sqrt())

    return math.log2(error(0.1) / error(0.05))


def exact_past_order(solver: solvers.Solver, sde: GaussianSDE, corrected: bool) -> float:
    """Local order of the last of four uneven steps whose past is exact; a wrong ratio of steps costs an order.

    With `corrected` it is that of the repaired state, which a step of no length brings to light.
    """
    plain = copy.copy(solver)
    if hasattr(solver, "corrector"):
        object.__setattr__(plain, "corrector", False)  # it would repair the exact states
    v = VARIANCES
    model = gaussian(sde, torch.zeros(4), v)

    def error(h: float) -> float:
        knots = [sde.knot_at(-2 * z) for z in (0.5 + 4.0 * h, 0.5 + 2.7 * h, 0.5 + 1.6 * h, 0.5 + h, 0.5)]
        exact = [(k.alpha**2 * v + k.sigma**2).sqrt()[None] for k in knots]
        state, y = None, exact[0]
        for x, (now, next) in zip(exact, pairwise(knots), strict=False):
            y, state, *_ = plain.step(model, x, now, next, state, noise=SILENT)
        if corrected:
            after = sde.knot_at(knots[-1].log_snr + 1e-11)
            y = solver.step(model, y, knots[-1], after, state, noise=SILENT).x
        return float((y - exact[-1]).norm())

    h = 0.16 if corrected else 0.04
    return math.log2(error(h) / error(h / 2))


def starting_order(solver: solvers.Solver) -> float:
    """Order on a process whose solution bends from the start, where the first step knows a single value."""
    sde, v = EDM(T=2.0, t_min=0.1, t_end=0.1), torch.tensor([1.0, 0.3])
    laws = (output_law(solver, grids.uniform_log_snr(sde, n + 1)[:-1], sde, v).error for n in (128, 256))
    coarse, fine = laws
    return math.log2(coarse / fine)
