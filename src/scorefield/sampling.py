"""The loops that carry states along a time grid: `integrate` for given states, `sample` from noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from scorefield import grids
from scorefield._derivatives import unrecorded
from scorefield._finite import require_finite
from scorefield._inputs import Array, Seeds, Shape, as_seeds, as_shape, as_tensor, whole
from scorefield._noise import Noise, NoiseSource
from scorefield.processes import SDE, GaussianSDE, Knot, Prior
from scorefield.score import Score, ScoreModule, as_states, evaluating, placement
from scorefield.solvers import (
    DDIM,
    BogackiShampine,
    Corrector,
    DormandPrince,
    EulerMaruyama,
    ExponentialAdams,
    GuidedAdams,
    Solver,
    Step,
)
from scorefield.solvers.solver import advance, check_solver

Callback = Callable[[int, Knot, Step], None]
ROUNDINGS = 8  # of a state on the way of an adaptive solver


def integrate(
    model: Score,
    x: Float[Tensor, "b *event"],
    times: Sequence[float],
    solver: Solver,
    *,
    noise: NoiseSource,
    callback: Callback | None = None,
) -> Float[Tensor, "b *event"]:
    """Carries the states from the first time to the last, one solver step for each gap; gradients pass through.

    Args:
        model: the score.
        x: states at times[0].
        times: decreasing to generate, increasing to encode. A last time of 0 ends with the posterior mean D(x, t): the
            denoise step, which every sampler of a Gaussian process should take (it is worth several points of FID).
        solver: the method.
        noise: step k = 1, 2, ... uses `noise.at(k)`.
        callback: called with (k, the knot reached, the step's result).

    Returns:
        The states at times[-1].
    """
    check_solver(solver)
    if isinstance(solver, Corrector):
        raise ValueError(
            f"{type(solver).__name__} moves states at a fixed time: use it in PredictorCorrector or AnnealedLangevin, "
            "or by `chain`"
        )
    x, knots = as_tensor(x, "x"), model.sde.knots(times)
    if len(knots) < 2:
        raise ValueError(f"times must have at least 2 points; got {len(knots)}")
    if knots[0].t == 0:
        raise ValueError(f"the score has no value at t = 0: start at t_min = {model.sde.t_min}")
    state: Any = None
    for k, (now, next) in enumerate(pairwise(knots), start=1):
        if now.t == next.t:
            raise ValueError(f"times must differ from one to the next; got {now.t} twice")
        step = advance(solver, model, x, now, next, state, noise=noise.at(k))
        x, state = model.sde.confine(step.x), step.state
        if callback is not None:
            callback(k, next, step)
    return x


def chain(
    model: Score,
    x: Float[Tensor, "b *event"],
    t: float,
    corrector: Solver,
    steps: int,
    *,
    noise: NoiseSource,
    callback: Callback | None = None,
) -> Float[Tensor, "b *event"]:
    """A Markov chain at a fixed time: `steps` steps of a corrector, such as `Langevin` or `HMC`.

    Args:
        model: the score.
        x: where the chains start.
        t: the time, in (0, T].
        corrector: a method that acts at a fixed time.
        steps: at least 1.
        noise: step k = 1, 2, ... uses `noise.at(k)`.
        callback: called with (k, the knot of t, the step's result).

    Returns:
        The last states.
    """
    if not t > 0:
        raise ValueError(f"a chain needs a time above 0; got {t}")
    (knot,) = model.sde.knots([t])
    x, state = as_states(model, x), None
    for k in range(1, whole(steps, "steps") + 1):
        step = corrector.step(model, x, knot, knot, state, noise=noise.at(k))
        x, state = step.x, step.state
        if callback is not None:
            callback(k, knot, step)
    return x


@unrecorded()
def sample(
    model: Score,
    event_shape: Shape,
    times: Sequence[float],
    solver: Solver,
    *,
    seeds: Seeds,
    batch_size: int | None = None,
    start: tuple[Array, float] | None = None,
    prior: Prior | None = None,
    callback: Callback | None = None,
    progress: bool = False,
) -> Float[Tensor, "n *event"]:
    """Draws one sample for each seed.

    A sample depends on its seed alone: not on the other seeds, their order, or how they are split into calls. Kernels
    of the network round differently for other batch shapes, so this holds to the bit at equal `batch_size` (the last
    batch is padded to it) and to rounding otherwise.

    Args:
        model: the score; networks are run in evaluation mode.
        event_shape: shape of one sample; 2 is (2,).
        times: from `scorefield.grids`, decreasing; they begin at T if neither `prior` nor `start` is given.
        solver: the method.
        seeds: one 64-bit integer for each of the n samples; 7 is [7].
        batch_size: samples in one network call; all n by default.
        start: states and their time t, to begin there instead of with noise: the grid's times below t are used
            (SDEdit, Meng et al. 2022, if the states are noised data).
        prior: the law at times[0], by default the process's at T.
        callback: see `integrate`; with several batches it is called for each of them.
        progress: show a progress bar.

    Returns:
        n samples, of the dtype and on the device of the model's parameters, or of `start`.

    Raises:
        Diverged: a ValueError, of samples that are not finite.
    """
    check_solver(solver)
    keys, shape = as_seeds(seeds), as_shape(event_shape)
    n, times = len(keys), [float(t) for t in times]
    if n == 0:
        raise ValueError("sampling needs at least one seed; got none")
    batch_size = n if batch_size is None else whole(batch_size, "batch_size")
    if start is None:
        like = torch.empty((0, *shape), **placement(model))
    else:
        like, t = as_states(model, start[0], "start"), start[1]
        if like.shape != (n, *shape):
            raise ValueError(f"start must hold states of shape {(n, *shape)}; got {tuple(like.shape)}")
        times = [t, *(s for s in times if s < t)]
    if any(a <= b for a, b in pairwise(times)):
        raise ValueError(f"times must decrease; got {times[:8]}")
    if start is None and prior is None and times and times[0] < model.sde.T * (1 - 1e-9):
        raise ValueError(
            f"the process's prior is its law at T = {model.sde.T}; got times that begin at {times[0]}: give the law "
            "there as `prior`, or states as `start`"
        )
    batches = range(0, n, batch_size)
    total = len(batches) * (len(times) - 1)
    results: list[Tensor] = []
    with evaluating(model), tqdm(total=total, unit="step", mininterval=0.5, disable=None if progress else True) as bar:

        def report(k: int, knot: Knot, step: Step) -> None:
            bar.update()
            if callback is not None:
                callback(k, knot, step)

        for first in batches:
            rows = torch.arange(first, first + batch_size).clamp_max(n - 1)
            noise = Noise.per_sample(keys[rows], like.device).until(len(times))
            part = model.select(rows, n) if isinstance(model, ScoreModule) else model
            if start is None:
                x = (prior or model.sde.prior).sample(like.new_empty((batch_size, *shape)), noise.at(0))
            else:
                x = like[rows.to(like.device)]
            x = integrate(part, x, times, solver.select(rows, n), noise=noise, callback=report)
            results.append(x[: n - first])
    samples = torch.cat(results)
    require_finite(samples, "samples", model.sde, model)
    return samples


def default(sde: SDE, nfe: int) -> tuple[Solver, list[float]]:
    """A good solver and its grid for a budget of `nfe` network calls a sample.

    For a Gaussian process and data of about unit variance: exponential Adams on equal steps of information, down to
    sigma / alpha = 0.5 / nfe (0.17 of 5 calls, 0.35 / nfe of 7 to 14), from where the last step errs as little as the
    others. Of 4 calls with 2 values and v = 2; then with 3 values, 4 from 30 calls on, and v = 9, of 7 to 14 calls 16;
    with the corrector from 15 calls on, since it does harm where the steps are long. Below 4 calls only DDIM keeps the
    variance in bounds. Guided models, which make all of these unstable, are given to `GuidedAdams` on the same grid.
    """
    if not isinstance(sde, GaussianSDE):
        return EulerMaruyama(), grids.quadratic(sde, nfe)
    if nfe < 4:
        return DDIM(), grids.uniform_log_snr(sde, nfe)
    first, last = (-0.5 * sde.log_snr(torch.tensor([sde.T, sde.t_end], dtype=torch.float64))).exp().tolist()
    few = 7 <= nfe < 15
    end = max(last, min(0.17 if nfe == 5 else (0.35 if few else 0.5) / nfe, 0.1 * first))
    time = float(sde.time(torch.tensor(-2 * math.log(end), dtype=torch.float64)))
    if nfe == 4:
        solver = ExponentialAdams(2, corrector=False, sigma_data=math.sqrt(2))
    else:
        order, sigma_data = 3 if nfe < 30 else 4, 4.0 if few else 3.0
        solver = ExponentialAdams(order, corrector=nfe >= 15, sigma_data=sigma_data)
    return GuidedAdams(solver), grids.uniform_information(sde, nfe, max(time, sde.t_end))


def stochastic(sde: GaussianSDE, steps: int, finest: float = 0.0) -> tuple[Solver, list[float]]:
    """The reverse SDE by exponential Adams of order 2, on equal steps of the log-SNR.

    For guided denoisers, which err: fresh noise makes samples forget the errors of earlier steps, where those of the
    ODE add up. With short steps h of log(sigma / alpha) it predicts velocities, which is most accurate; beyond
    h = 1.3 + 0.13 log(finest), from where that is unstable in what has been measured, the data, which is stable always.

    Args:
        sde: the process.
        steps: at least 1.
        finest: the smallest structure of the samples, 0 if it is not known; the last step begins at a tenth of it, if
            the process goes so far and t_end does not.
    """
    end = None
    if finest:
        time = float(sde.time(torch.tensor(-2 * math.log(0.1 * finest), dtype=torch.float64)))
        end = min(max(sde.t_min, time), sde.t_end)
    times = grids.uniform_log_snr(sde, steps, end)
    first, last = (-0.5 * knot.log_snr for knot in sde.knots([sde.t_start, min(times[-2], sde.t_start)]))
    short = first - last <= (steps - 1) * (1.3 + 0.13 * (math.log(finest) if finest else last + math.log(10)))
    return ExponentialAdams(2, corrector=False, eta=1.0, sigma_data=1.0 if short else 0.0), times


def adaptive(sde: GaussianSDE, tolerance: float, dtype: torch.dtype = torch.float64) -> tuple[Solver, list[float]]:
    """A solver and its grid for samples of the probability-flow ODE that err by about `tolerance`, for unit data.

    The denoise step errs by the square of sigma / alpha, which sets where it begins.

    Args:
        sde: the process.
        tolerance: in (0, 1); at least half the square of sigma / alpha at the process's t_min, and what the states'
            dtype can tell apart.
        dtype: of the states.
    """
    last = 0.5 * math.exp(-float(sde.log_snr(torch.tensor(sde.t_min, dtype=torch.float64))))
    rounding = ROUNDINGS * torch.finfo(dtype).eps
    if not max(last, rounding) <= tolerance < 1:
        reason = f"the last step from {type(sde).__name__}'s least noise"
        if last < rounding:
            reason = f"the rounding of {str(dtype).removeprefix('torch.')}"
        raise ValueError(
            f"tolerance must lie in [{max(last, rounding):.2g}, 1), since {reason} errs by as much; got {tolerance}"
        )
    solver = BogackiShampine(tolerance) if tolerance >= 1e-5 else DormandPrince(0.1 * tolerance)
    end = float(sde.time(torch.scalar_tensor(-2 * math.log(math.sqrt(tolerance) / 3), dtype=torch.float64)))
    return solver, [sde.T, min(max(end, sde.t_min), sde.t_end), 0.0]


def network_calls(sde: SDE, times: Sequence[float], solver: Solver, event_shape: Sequence[int] = (1,)) -> int:
    """Network calls for a sample, counted in a run with a score of 0; adaptive solvers make others with yours.

    Args:
        sde: the process.
        times: as for `integrate`.
        solver: the method.
        event_shape: of the sample, for a solver that looks at it.
    """
    model = _Counting(sde)
    integrate(model, torch.zeros(1, *event_shape), times, solver, noise=Noise.per_sample([0]))
    return model.calls


class _Counting:
    def __init__(self, sde: SDE) -> None:
        self.sde, self.calls = sde, 0

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return torch.zeros_like(x)
