"""Distances between two scores, where the true one is known."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import Noise
from scorefield._shapes import event_sum, factor
from scorefield.objectives.objective import gaussian_process
from scorefield.objectives.time_densities import UniformLogSNR
from scorefield.score import Score, ScoreModule


def fisher_divergence(model: Score, truth: Score, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b"]:
    """1/2 |s(x, t) - grad log p_t(x)|^2; its mean over x ~ p_t is the Fisher divergence of the model from the truth.

    Args:
        model: the score to judge.
        truth: the score of p_t, such as an `analytic.GaussianMixture`.
        x: draws from p_t.
        t: the time, () or (b,).
    """
    return 0.5 * event_sum((model.score(x, t) - truth.score(x, t)) ** 2)


def kl_bound(model: ScoreModule, truth: Score, x0: Float[Tensor, "b *event"], *, noise: Noise) -> Float[Tensor, "b"]:
    """Estimates, one for each sample, of 1/2 int g^2 E|s - grad log p_t|^2 dt over t_min .. T, in nats.

    With the mismatch at the end, KL(p_T || pi) (see `prior_mismatch`), their mean bounds the Kullback-Leibler
    divergence of the generated law at t_min from the data's: KL(p || p_model) <= 1/2 int ... + KL(p_T || pi)  (Song et
    al. 2021, "ScoreFlow", theorem 1; there for the reverse SDE, not for the ODE).

    Args:
        model: the score to judge.
        truth: the true one.
        x0: clean samples.
        noise: made by `Noise.per_batch`.
    """
    sde = gaussian_process(model, "kl_bound")
    t, p = UniformLogSNR()(sde, noise.stratified(0))
    x = sde.perturb(x0, t, noise.normal(x0, draw=1))
    divergence = fisher_divergence(model, truth, x, t)
    return factor(sde.sigma(t) ** 2 / p, divergence) * divergence
