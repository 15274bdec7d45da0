"""Denoisers in closed form, for tests, docs and benchmarks: every question about them has an exact answer."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import double, placed
from scorefield._inputs import Array, Time, as_tensor, check_event
from scorefield._noise import NoiseSource
from scorefield._shapes import event_size
from scorefield.processes import GaussianSDE, as_point
from scorefield.score import Denoiser


class GaussianMixture(Denoiser):
    """x_0 ~ sum_k w_k N(m_k, S_k), hence x_t ~ sum_k w_k N(alpha m_k, alpha^2 S_k + sigma^2 I).

    Each covariance is kept as eigenvectors U_k and eigenvalues v_k, in float64; `.float()` trades exactness for speed.

    Args:
        sde: the process.
        weights: (K,), positive; they are normalised.
        means: (K, *event).
        covariances: (K, d, d) symmetric positive semi-definite for d scalars in an event; or variances, (K, d) or (K,).
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    bases: Tensor | None

    def __init__(self, sde: GaussianSDE, weights: Array, means: Array, covariances: Array) -> None:
        super().__init__(sde)
        weights, means, covariances = _numbers(weights=weights, means=means, covariances=covariances)
        k, d = len(means), event_size(means)
        if k == 0:
            raise ValueError("a mixture needs at least one component")
        if weights.shape != (k,) or covariances.shape not in ((k,), (k, d), (k, d, d)):
            raise ValueError(
                f"a mixture of K = {k} components in d = {d} dimensions needs weights (K,) and covariances (K, d, d), "
                f"(K, d) or (K,); got {tuple(weights.shape)} and {tuple(covariances.shape)}"
            )
        if not bool((weights > 0).all()):
            raise ValueError(f"the weights of a mixture must be positive; got {weights.tolist()}")
        if covariances.ndim == 3 and not torch.allclose(covariances, covariances.mT):
            raise ValueError("covariances must be symmetric: take (C + C^T) / 2")
        self.event_shape = means.shape[1:]
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("means", means.reshape(k, d))
        if covariances.ndim == 3:
            variances, bases = torch.linalg.eigh(covariances)
        else:
            variances, bases = covariances.reshape(k, -1).expand(k, d).clone(), None
        if not float(variances.min()) >= -1e-9 * float(variances.max()):  # NaN fails as well
            raise ValueError(
                f"covariances must be positive semi-definite; got an eigenvalue of {float(variances.min())}"
            )
        self.register_buffer("variances", variances.clamp_min(0))
        self.register_buffer("bases", bases)

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """sum_k p(k | x) E[x_0 | x, k]."""
        alpha, sigma = self._scales_at(t)
        return self._mean(x, self._components(x, alpha, sigma), alpha * self.variances, self.means)

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and sum_k p(k | x) sigma C_k^-1 (x - alpha m_k) with C_k = alpha^2 S_k + sigma^2 I."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma = self._scales_at(t)
        components = self._components(x, alpha, sigma)
        return self._mean(x, components, alpha * self.variances, self.means), self._mean(x, components, sigma)

    def noise(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The latter alone."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma = self._scales_at(t)
        return self._mean(x, self._components(x, alpha, sigma), sigma)

    def velocity(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """sigma sum_k p(k | x) (alpha (I - S_k) C_k^-1 (x - alpha m_k) - m_k)."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma = self._scales_at(t)
        components = self._components(x, alpha, sigma)
        return self._mean(x, components, alpha * sigma * (1 - self.variances), -sigma * self.means)

    def log_prob(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b"]:
        """log p_t(x) in nats; t = 0 gives the data's own density."""
        x, t = as_point(self.sde, x, t, data=True)
        return self._components(x, *self._scales_at(t, data_at_zero=True))[2].logsumexp(1)

    def log_density(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b"]:
        """The same, by the name that `LogDensity` gives it."""
        return self.log_prob(x, t)

    def divergence(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b"]:
        """tr grad score = sum_k p(k | x) (|score_k|^2 - tr C_k^-1) - |score|^2 with C_k = alpha^2 S_k + sigma^2 I."""
        x, t = as_point(self.sde, x, t, data=True)
        alpha, sigma = self._scales_at(t)
        projected, spread, logits = self._components(x, alpha, sigma)
        scores = -self._rotate(projected / spread, back=True)
        share = logits.softmax(1)[..., None]
        return (share * (scores**2 - 1 / spread)).sum((1, 2)) - ((share * scores).sum(1) ** 2).sum(1)

    def marginal(self, t: float) -> MarginalPrior:
        """The law of x_t, to start a sampler from or to compare with; t = 0 is the data."""
        return MarginalPrior(self, t)

    def posterior(self, operator: Float[Tensor, "m d"], y: Float[Tensor, "m"], noise_std: float) -> GaussianMixture:
        """The law of x_0 given y = A x_0 + n, n ~ N(0, noise_std^2 I): another mixture.

        Args:
            operator: A, acting on the flattened event.
            y: the observation.
            noise_std: > 0.
        """
        if not noise_std > 0:
            raise ValueError(f"the exact posterior needs noise_std > 0; got {noise_std}")
        a, covariance = operator.to(self.means), self.covariances()
        if a.ndim != 2 or a.shape[1] != self.means.shape[1] or y.shape != a.shape[:1]:
            raise ValueError(
                f"wanted an operator (m, {self.means.shape[1]}) and an observation (m,); "
                f"got {tuple(operator.shape)} and {tuple(y.shape)}"
            )
        gram = a @ covariance @ a.T + noise_std**2 * torch.eye(len(a)).to(a)
        gain = torch.linalg.solve(gram, a @ covariance).mT
        residual = y.to(self.means) - self.means @ a.T
        solved = torch.linalg.solve(gram, residual[..., None])[..., 0]
        log_weights = self.weights.log() - 0.5 * ((residual * solved).sum(1) + torch.logdet(gram))
        means = self.means + (gain @ residual[..., None])[..., 0]
        kept = torch.eye(a.shape[1]).to(a) - gain @ a  # Joseph's form, a sum of squares, does not cancel
        remaining = kept @ covariance @ kept.mT + noise_std**2 * gain @ gain.mT
        return GaussianMixture(
            self.sde,
            log_weights.softmax(0).clamp_min(torch.finfo(a.dtype).tiny),
            means.reshape(-1, *self.event_shape),
            0.5 * (remaining + remaining.mT),
        )

    def covariances(self) -> Float[Tensor, "K d d"]:
        """The covariance of each component."""
        if self.bases is None:
            return torch.diag_embed(self.variances)
        return self.bases * self.variances[:, None] @ self.bases.mT

    def _scales_at(self, t: Tensor, data_at_zero: bool = False) -> tuple[Tensor, Tensor]:
        """Alpha and sigma as (), or as (b, 1, 1) to broadcast against (b, K, d)."""
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        if data_at_zero:
            alpha, sigma = torch.where(t == 0, 1.0, alpha), torch.where(t == 0, 0.0, sigma)
        if t.ndim == 0:
            return alpha, sigma
        return placed(alpha[:, None, None], self.means), placed(sigma[:, None, None], self.means)

    def _components(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x - alpha m_k and C_k in the eigenbasis, (b, K, d), and log w_k N(x; alpha m_k, C_k), (b, K)."""
        check_event(x, self.event_shape, type(self).__name__)
        offset = x.reshape(len(x), 1, -1).to(self.means) - alpha * self.means
        projected = self._rotate(offset)
        spread = alpha**2 * self.variances + sigma**2
        distance = (projected**2 / spread).sum(-1)
        log_normaliser = spread.log().sum(-1) + spread.shape[-1] * math.log(2 * math.pi)
        return projected, spread, self.weights.log() - 0.5 * (distance + log_normaliser)

    def _mean(
        self, x: Tensor, components: tuple[Tensor, Tensor, Tensor], gain: Tensor, shift: Tensor | float = 0.0
    ) -> Float[Tensor, "b *event"]:
        """sum_k p(k | x) (gain_k C_k^-1 (x - alpha m_k) + shift_k), the gain in the eigenbasis."""
        projected, spread, logits = components
        parts = shift + self._rotate(gain / spread * projected, back=True)
        return (logits.softmax(1)[..., None] * parts).sum(1).reshape(x.shape).to(x)

    def _rotate(self, v: Tensor, back: bool = False) -> Tensor:
        if self.bases is None:
            return v
        return torch.einsum("bkj,kij->bki" if back else "bki,kij->bkj", v, self.bases)


def _numbers(**given: Array | float) -> list[Tensor]:
    numbers = {name: double(as_tensor(values, name)) for name, values in given.items()}
    for name, values in numbers.items():
        if (wrong := values[~values.isfinite()]).numel():
            raise ValueError(f"a mixture is made of finite numbers; got {float(wrong[0])} among the {name}")
    return list(numbers.values())


def gaussian(sde: GaussianSDE, mean: Array, covariance: Array | float) -> GaussianMixture:
    """x_0 ~ N(mean, covariance), a mixture of one component.

    Args:
        sde: the process.
        mean: (*event).
        covariance: (d, d), d variances, or one variance.
    """
    mean, covariance = _numbers(means=mean, covariances=covariance)
    return GaussianMixture(sde, torch.ones(1), mean[None], covariance[None])


class GaussianMap(Denoiser):
    """The exact flow map of x_0 ~ N(m, S): its flow keeps the whitened state.

    With y = x / alpha, s = sigma / alpha, q the same at `to`, for each eigenvalue v of S:

        X(y; s -> q) = m + R (y - m),  R = sqrt((v + q^2) / (v + s^2))
        G(y, s, q)   = m + v (1 + r) / ((v + s^2) (R + r)) (y - m),  r = q / s

    Both are computed without 1 / alpha, and without the difference of (X - r y) / (1 - r).

    Args:
        law: a mixture of one component.
    """

    def __init__(self, law: GaussianMixture) -> None:
        if len(law.weights) != 1:
            raise ValueError(f"a mixture of {len(law.weights)} components has no flow map in closed form; give one")
        super().__init__(law.sde)
        self.law, self.event_shape = law, law.event_shape

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """m + alpha v / (alpha^2 v + sigma^2) (x - alpha m)."""
        return self.law(x, t)

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the law."""
        return self.law.predictions(x, t)

    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """That of the law."""
        return self.law.score(x, t)

    def velocity(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """That of the law."""
        return self.law.velocity(x, t)

    def aim(self, x: Float[Tensor, "b *event"], t: Time, to: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """G."""
        x, alpha, sigma, there, noise = self._levels(x, t, to)
        v, q = self.law.variances, noise / there
        spread, ratio = (alpha**2 * v + sigma**2).sqrt(), q * alpha / sigma
        below = spread * ((v + q**2).sqrt() + spread * q / sigma)
        gain = torch.where(v == 0, 0.0, v * (1 + ratio) / torch.where(v == 0, 1.0, below))
        return self._moved(x, alpha, gain, 1.0)

    def jump(self, x: Float[Tensor, "b *event"], t: Time, to: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """alpha' X, with alpha' at `to`."""
        x, alpha, sigma, there, noise = self._levels(x, t, to)
        v = self.law.variances
        gain = ((there**2 * v + noise**2) / (alpha**2 * v + sigma**2)).sqrt()
        return self._moved(x, alpha, gain, there)

    def _levels(self, x: Tensor, t: Time, to: Time) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The states, alpha and sigma at t, and at `to`, as () or (b, 1, 1)."""
        x, t = as_point(self.sde, x, t)
        _, to = as_point(self.sde, x, to, data=True)
        return x, *self.law._scales_at(t), *self.law._scales_at(to, data_at_zero=True)  # pyright: ignore[reportPrivateUsage]

    def _moved(self, x: Tensor, alpha: Tensor, gain: Tensor, of_mean: Tensor | float) -> Float[Tensor, "b *event"]:
        """of_mean m + gain (x - alpha m), the gain in the eigenbasis."""
        law = self.law
        offset = law._rotate(x.reshape(len(x), 1, -1).to(law.means) - alpha * law.means)  # pyright: ignore[reportPrivateUsage]
        moved = of_mean * law.means + law._rotate(gain * offset, back=True)  # pyright: ignore[reportPrivateUsage]
        return moved.reshape(x.shape).to(x)


def gaussian_map(sde: GaussianSDE, mean: Array, covariance: Array | float) -> GaussianMap:
    """The exact flow map of N(mean, covariance), arguments as of `gaussian`."""
    return GaussianMap(gaussian(sde, mean, covariance))


class MarginalPrior:
    """The law of x_t under a `GaussianMixture`."""

    def __init__(self, mixture: GaussianMixture, t: float) -> None:
        self.mixture, self.knot = mixture, mixture.sde.knots([t])[0]

    def sample(self, like: Float[Tensor, "b *event"], noise: NoiseSource) -> Float[Tensor, "b *event"]:
        """One exact sample for each row of `like`."""
        m, knot = self.mixture, self.knot
        u = torch.special.ndtr(noise.child(0).normal(m.means.new_empty(len(like))))
        k = torch.searchsorted(m.weights.cumsum(0), u).clamp_max(len(m.weights) - 1)
        z = noise.child(1).normal(m.means.new_empty(len(like), event_size(like)))
        z = z * (knot.alpha**2 * m.variances[k] + knot.sigma**2).sqrt()
        if m.bases is not None:
            z = torch.einsum("bj,bij->bi", z, m.bases[k])
        return (knot.alpha * m.means[k] + z).reshape(like.shape).to(like)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        """log p_t(x) in nats."""
        return self.mixture.log_prob(x, self.knot.time)
