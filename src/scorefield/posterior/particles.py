"""Sequential Monte Carlo along the reverse process."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from scorefield._device import widened
from scorefield._finite import require_finite
from scorefield._noise import Noise, as_seeds
from scorefield._shapes import event_sum
from scorefield.grids import uniform_log_snr
from scorefield.guidance.twist import Twist, Twisted
from scorefield.posterior.sampler import PosteriorSampler
from scorefield.processes import Knot
from scorefield.score import Denoiser, evaluating, placement


class ParticleSampler(PosteriorSampler):
    """Draws from one weighted cloud; see `particles`. Subclasses say what tilts it.

    Two samples may be equal if there are not many more particles than samples, and they depend on each other.

    Args:
        denoiser: of the prior.
        twist: the target and the way there.
        count: number of particles, >= 1; as many as samples if that is more.
        steps: of the grid, equal in log(sigma / alpha), >= 2.
        threshold: the cloud is resampled when its effective size falls below this share, in [0, 1].
    """

    def __init__(self, denoiser: Denoiser, twist: Twist, count: int, steps: int, threshold: float) -> None:
        if not (count >= 1 and steps >= 2 and 0 <= threshold <= 1):
            raise ValueError(
                f"wanted count >= 1, steps >= 2 and threshold in [0, 1]; got {count}, {steps} and {threshold}"
            )
        self.denoiser, self.twist = denoiser, twist
        self.count, self.steps, self.threshold = count, steps, threshold

    @torch.no_grad()
    def sample(
        self,
        event_shape: Sequence[int],
        *,
        seeds: Iterable[int] | Tensor,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Float[Tensor, "n *event"]:
        """As many samples as seeds, drawn from one cloud that is seeded by the first of them."""
        keys, sde = as_seeds(seeds), self.denoiser.sde
        if len(keys) == 0 or (batch_size is not None and batch_size < 1):
            raise ValueError(f"wanted at least one seed and a batch_size of at least 1; got {len(keys)}, {batch_size}")
        like = torch.empty((max(self.count, len(keys)), *event_shape), **placement(self.denoiser))
        noise = Noise.per_batch(int(keys[0]), len(like), device=like.device)
        knots = sde.knots([sde.t_start, *uniform_log_snr(sde, self.steps)[1:]])
        with evaluating(self.denoiser):
            x, log_weights = particles(
                self.twist, like, knots, self.threshold, noise=noise, batch_size=batch_size, progress=progress
            )
        samples = x[systematic(log_weights, len(keys), noise.child(2))]
        require_finite(samples, "samples", sde)
        return samples


def particles(
    twist: Twist,
    like: Float[Tensor, "n *event"],
    knots: list[Knot],
    threshold: float,
    *,
    noise: Noise,
    batch_size: int | None = None,
    progress: bool = False,
) -> tuple[Float[Tensor, "n *event"], Float[Tensor, "n"]]:
    """A cloud of n particles and the logarithms of their weights for the law that the twist tilts.

    Each takes steps of the reverse SDE by the guided denoiser,

        x_b ~ q(x_b | x_a) = N(alpha_b (kept x_a / alpha_a + pull D_y), alpha_b^2 std^2)        (see `transition`)

    and has its weight multiplied by  psi_b(x_b) p(x_b | x_a) / (psi_a(x_a) q(x_b | x_a)),  with p the same for D and
    psi the twist, at the data exp(log_target); the psi cancel but for the last, so that the weighted cloud is right for
    any psi as n grows. When the effective sample size falls below `threshold` n, the cloud is drawn anew by systematic
    resampling  (Wu et al. 2023, "TDS", algorithm 1).

    Args:
        twist: the target.
        like: a tensor of the cloud's shape, dtype and device.
        knots: of the grid, from the process's t_start to 0.
        threshold: in [0, 1].
        noise: of the cloud.
        batch_size: particles in one network call; all by default.
        progress: show a progress bar.
    """
    n = len(like)
    x = twist.sde.prior.sample(like, noise)
    look = _look(twist, x, knots[0], batch_size)
    log_weights = widened(look.log_twist)
    steps = [*pairwise(knots[:-1])]
    for step, (now, next) in enumerate(tqdm(steps, unit="step", disable=None if progress else True), 1):
        own = noise.at(step)
        if effective(log_weights) < threshold * n:
            rows = systematic(log_weights, n, own.child(1))
            x, look = x[rows], Twisted(*(v[rows] for v in look))
            log_weights = torch.zeros_like(log_weights)
        kept, pull, std = transition(now.sigma / now.alpha, next.sigma / next.alpha)
        shift, z = pull * (look.guided - look.denoised), own.normal(x)
        x = next.alpha * (kept / now.alpha * x + pull * look.guided + std * z)
        # log p / q of x = mean of p + shift + std z
        log_weights = log_weights - widened(event_sum(shift * (shift + 2 * std * z))) / (2 * std**2)
        before, look = look.log_twist, _look(twist, x, next, batch_size)
        log_weights = _reweighted(log_weights, look.log_twist, before)
    return look.denoised, _reweighted(log_weights, twist.log_target(look.denoised), look.log_twist)


def transition(s: float, s_next: float) -> tuple[float, float, float]:
    """kept, pull and std of the reverse SDE's step in x / alpha, exact for data from N(0, I) at any size of the step.

    `ExponentialAdams` of order 1 with eta = 1 and sigma_data = 1: for q = 1 + s^2 and F = (D - xbar / q) sqrt(q) / s
    held fixed, xbar_b = (q_b / q_a) xbar_a + 2 q_b (s_a / sqrt(q_a) - s_b / sqrt(q_b)) F + sqrt(q_b (1 - q_b / q_a)) z.
    """
    q, q_next = 1 + s**2, 1 + s_next**2
    pull = 2 * q_next * (s / math.sqrt(q) - s_next / math.sqrt(q_next)) * math.sqrt(q) / s
    return q_next / q - pull / q, pull, math.sqrt(q_next * (1 - q_next / q))


def _reweighted(log_weights: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """log_weights + new - old, where a twist of 0 kills a particle for good."""
    alive = old > -math.inf
    log_weights = torch.where(alive, log_weights + widened(new) - widened(torch.where(alive, old, 0)), -math.inf)
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
    parts = [twist.twisted(part, at.time) for part in x.split(batch_size or len(x))]
    return Twisted(*(torch.cat(column) for column in zip(*parts, strict=True)))
