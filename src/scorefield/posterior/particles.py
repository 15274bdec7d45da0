"""Sequential Monte Carlo along the reverse process."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from scorefield._derivatives import unrecorded
from scorefield._device import widened
from scorefield._finite import require_finite
from scorefield._inputs import Seeds, Shape, as_seeds, as_shape, whole
from scorefield._noise import CHILDREN, Noise
from scorefield._shapes import event_sum
from scorefield.grids import uniform_log_snr
from scorefield.guidance import GuidedSolver
from scorefield.guidance.twist import Twist, Twisted
from scorefield.posterior.kernel import Constant, Seen, noise_of_step
from scorefield.posterior.sampler import PosteriorSampler
from scorefield.processes import Knot
from scorefield.sampling import Callback
from scorefield.score import Denoiser, evaluating, placement
from scorefield.solvers import Corrector, ExponentialAdams, Solver, Step
from scorefield.solvers.solver import advance

PLAIN = ExponentialAdams(1, corrector=False, eta=1.0)  # exact for data from N(0, I) at any size of the step
FEW = 10  # effective particles, of which no estimate is to be trusted


class ParticleSampler(PosteriorSampler):
    """Draws from one weighted cloud; see `particles`. Subclasses say what tilts it.

    Two samples may be equal if there are not many more particles than samples, and they depend on each other.

    Args:
        denoiser: of the prior.
        twist: the target and the way there.
        count: number of particles, >= 1; as many as samples if that is more.
        steps: of the grid, equal in log(sigma / alpha), >= 2.
        threshold: the cloud is resampled when its effective size falls below this share, in [0, 1].
        solver: whose steps the particles take. After resampling without noise of the steps copies stay copies.
    """

    def __init__(
        self, denoiser: Denoiser, twist: Twist, count: int, steps: int, threshold: float, solver: Solver
    ) -> None:
        if not (count >= 1 and steps >= 2 and 0 <= threshold <= 1):
            raise ValueError(
                f"wanted count >= 1, steps >= 2 and threshold in [0, 1]; got {count}, {steps} and {threshold}"
            )
        if isinstance(solver, Corrector | GuidedSolver):
            raise TypeError(
                f"the steps of {type(solver).__name__} are not those of the prior's reverse process: take another "
                f"solver, such as {PLAIN}"
            )
        self.denoiser, self.twist, self.solver = denoiser, twist, solver
        self.count, self.threshold = count, threshold
        self.times = [denoiser.sde.t_start, *uniform_log_snr(denoiser.sde, steps)[1:]]

    @unrecorded()
    def sample(
        self,
        event_shape: Shape,
        *,
        seeds: Seeds,
        batch_size: int | None = None,
        progress: bool = False,
        callback: Callback | None = None,
    ) -> Float[Tensor, "n *event"]:
        """As many samples as seeds, drawn from one cloud that is seeded by the first of them.

        `callback` is called with (k, the knot reached, a `Step` of the cloud) after each step, which says how large the
        cloud really is: `info` has "effective", the effective size 1 / sum w^2 of the weights w, and "ancestors", that
        of their sums over the particles that stem from the same one at T. Below 10 of the former a warning says that
        they may err by any amount; where the latter is small, nothing shows that modes have their weights.
        """
        keys = as_seeds(seeds)
        if len(keys) == 0:
            raise ValueError("wanted at least one seed; got none")
        batch_size = None if batch_size is None else whole(batch_size, "batch_size")
        like = torch.empty((max(self.count, len(keys)), *as_shape(event_shape)), **placement(self.denoiser))
        noise = Noise.per_batch(int(keys[0]), len(like), device=like.device)
        sizes: Mapping[str, float] = {}

        def report(k: int, knot: Knot, step: Step) -> None:
            nonlocal sizes
            sizes = step.info or {}
            if callback is not None:
                callback(k, knot, step)

        with evaluating(self.denoiser):
            x, log_weights = particles(
                self.denoiser,
                self.twist,
                like,
                self.denoiser.sde.knots(self.times),
                self.threshold,
                self.solver,
                noise=noise,
                batch_size=batch_size,
                progress=progress,
                callback=report,
            )
        if sizes["effective"] < FEW <= len(like):
            warnings.warn(
                f"the weights of the {len(like)} particles are worth those of {sizes['effective']:.1f} samples, which "
                "may err by any amount: take more particles",
                stacklevel=3,  # past unrecorded
            )
        samples = x[systematic(log_weights, len(keys), noise.child(2))]
        require_finite(samples, "samples", self.denoiser.sde, self.denoiser)
        return samples


def particles(
    denoiser: Denoiser,
    twist: Twist,
    like: Float[Tensor, "n *event"],
    knots: list[Knot],
    threshold: float,
    solver: Solver,
    *,
    noise: Noise,
    batch_size: int | None = None,
    progress: bool = False,
    callback: Callback | None = None,
) -> tuple[Float[Tensor, "n *event"], Float[Tensor, "n"]]:
    """A cloud of n particles and the logarithms of their weights for the law that the twist tilts.

    Each takes the solver's step with the denoiser that the twist asks for and has its weight multiplied by

        psi_b(x_b) p(x_b | past) / (psi_a(x_a) q(x_b | past))

    with q the step's density, p that of the step with the prior's D, and psi the twist, exp(log_target) for the data.
    The psi cancel but for the last, so that the weighted cloud is right for any psi as n grows. Where the twist asks
    for the prior's own step p / q is 1, and nothing need be known of the solver. When the effective sample size falls
    below `threshold` n, the cloud is drawn anew by systematic resampling  (Wu et al. 2023, "TDS", algorithm 1).

    Args:
        denoiser: of the prior.
        twist: the target.
        like: a tensor of the cloud's shape, dtype and device.
        knots: of the grid, from the process's t_start to 0.
        threshold: in [0, 1].
        solver: of the steps; if the twist guides, one of which `noise_of_step` is known.
        noise: of the cloud.
        batch_size: particles in one network call; all by default.
        progress: show a progress bar.
        callback: see `ParticleSampler.sample`.
    """

    def elsewhere(x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([denoiser(part, t) for part in x.split(batch_size or len(x))])

    n, sde = len(like), denoiser.sde
    x = sde.prior.sample(like, noise)
    look = _look(twist, x, knots[0], batch_size)
    log_weights, origin = widened(look.log_twist), torch.arange(n, device=x.device)
    led: Any = None  # what the solver remembers of steps with the guided denoiser, and with the prior's from there
    plain: Any = None
    for k, (now, next) in enumerate(tqdm([*pairwise(knots)], unit="step", disable=None if progress else True), 1):
        own = noise.at(k)
        if effective(log_weights) < threshold * n:
            rows = systematic(log_weights, n, own.child(CHILDREN - 1))
            x, look, origin, led, plain = _taken((x, look, origin, led, plain), rows)
            log_weights = torch.zeros_like(log_weights)
        if look.guided is None or next.sigma == 0:
            step = advance(solver, Seen(sde, x, now, look.denoised, elsewhere), x, now, next, plain, noise=own)
            x, plain = step.x, step.state
        else:
            std, z = noise_of_step(solver, sde, now, next), own.normal(x)
            to = solver.step(Seen(sde, x, now, look.guided), x, now, next, led, noise=Constant(0.0))
            by = solver.step(Seen(sde, x, now, look.denoised), x, now, next, plain, noise=Constant(0.0))
            x, shift, led, plain = to.x + std * z, to.x - by.x, to.state, by.state
            # log p / q of x = mean of p + shift + std z
            log_weights = log_weights - widened(event_sum(shift * (shift + 2 * std * z))) / (2 * std**2)
        before = look.log_twist
        if next.sigma == 0:
            log_weights = _reweighted(log_weights, twist.log_target(x), before)
        else:
            look = _look(twist, x, next, batch_size)
            log_weights = _reweighted(log_weights, look.log_twist, before)
        if callback is not None:
            families = torch.zeros_like(log_weights).index_add_(0, origin, log_weights.softmax(0))
            sizes = {"effective": effective(log_weights), "ancestors": effective(families.log())}
            callback(k, next, Step(x, info=sizes))
    return x, log_weights


def _reweighted(log_weights: Tensor, new: Tensor, old: Tensor) -> Tensor:
    log_weights = log_weights + widened(new) - widened(old)
    if not float(log_weights.max()) < math.inf or bool(log_weights.isnan().any()):
        raise ValueError(
            "the weights of the particles are not finite: the reward or the likelihood is NaN or infinite somewhere"
        )
    if float(log_weights.max()) == -math.inf:
        raise ValueError(
            "no particle is left: the reward is -inf for each of them; take more particles, or a reward that grows "
            "towards what is wanted"
        )
    return log_weights


def effective(log_weights: Float[Tensor, "n"]) -> float:
    """The effective sample size 1 / sum w^2."""
    return float(1 / log_weights.softmax(0).square().sum())


def systematic(log_weights: Float[Tensor, "n"], count: int, noise: Noise) -> Int64[Tensor, "count"]:
    """Indices of `count` draws by the weights, each particle within one of its expected number  (Kitagawa 1996)."""
    weights = log_weights.softmax(0)
    u = noise.select(torch.zeros(1, dtype=torch.int64)).uniform(weights[:1])
    points = (torch.arange(count, device=weights.device) + u) / count
    return torch.searchsorted(weights.cumsum(0), points).clamp_max(len(weights) - 1)


def _look(twist: Twist, x: Tensor, at: Knot, batch_size: int | None) -> Twisted:
    """The twist's look at a cloud.

    One in doubt counts with an exponent 1 / (1 + the cloud's mean doubt), and one of 0 as the least of the cloud, since
    a particle is lost for good only where the target itself is 0.
    """
    parts = [twist.twisted(part, at.time) for part in x.split(batch_size or len(x))]
    denoised, guided, log_twist, doubt = (
        None if any(part is None for part in column) else torch.cat(column) for column in zip(*parts, strict=True)
    )
    assert denoised is not None and log_twist is not None
    lost = log_twist == -math.inf
    log_twist = torch.where(lost, 0 if bool(lost.all()) else log_twist[~lost].min(), log_twist)
    if doubt is not None:
        known = doubt[torch.isfinite(doubt)]
        log_twist = log_twist / (1 + known.sum() / max(1, len(known)))
    return Twisted(denoised, guided, log_twist)


def _taken(value: Any, rows: Int64[Tensor, "n"]) -> Any:
    """Rows of all the tensors in nested tuples that have one for each particle."""
    if isinstance(value, Tensor):
        return value[rows] if value.ndim and len(value) == len(rows) else value
    if isinstance(value, tuple):
        parts = [_taken(part, rows) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if value is None or isinstance(value, float | int):
        return value
    raise TypeError(f"the solver remembers a {type(value).__name__}, of which particles cannot be taken: tuples can")
