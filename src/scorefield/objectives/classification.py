"""Training and testing a classifier of noisy data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield._noise import Noise
from scorefield.objectives.adaptive import AdaptiveLogSNR
from scorefield.objectives.objective import Objective
from scorefield.objectives.time_densities import TimeDensity, UniformLogSNR
from scorefield.score import NoisyClassifier


@dataclass(frozen=True)
class CrossEntropy(Objective[NoisyClassifier]):
    """-log p(c | x_t, t) with x_t = alpha x_0 + sigma eps and the time drawn from a density.

    At each time its minimiser is the posterior of the class on p_t, whatever the density  (Song et al. 2021, appendix
    I; Dhariwal & Nichol 2021, section 4.1). A density that leaves a range of noise levels out, as EDM's does the
    highest, leaves the classifier overconfident there.

    Args:
        density: where the log-SNR is drawn; uniform by default, as a uniform time of VE is.
    """

    density: TimeDensity = field(default_factory=UniformLogSNR)

    def __post_init__(self) -> None:
        if isinstance(self.density, AdaptiveLogSNR):
            raise ValueError("AdaptiveLogSNR learns from squared errors, which DenoisingScoreMatching alone has")

    @property
    def extensive(self) -> bool:
        """False: the loss of a sample is that of one label."""
        return False

    def __call__(
        self, model: NoisyClassifier, x0: Float[Tensor, "b *event"], *, noise: Noise, **cond: Tensor
    ) -> Float[Tensor, "b"]:
        """The loss of each sample, in nats.

        Args:
            model: what to train.
            x0: clean samples in the model's space.
            noise: made by `Noise.per_batch`; its draw 0 gives low-discrepancy times, draw 1 the noise.
            cond: `label`, (b,) from 0; further conditions are not looked at.
        """
        if not isinstance(model, NoisyClassifier):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"CrossEntropy trains a NoisyClassifier; got {type(model).__name__}: train it otherwise")
        if "label" not in cond:
            raise ValueError("a classifier is trained on labels: give data with labels")
        t, _ = self.density(model.sde, noise.stratified(0))
        log_prob = model.log_prob(model.sde.perturb(x0, t, noise.normal(x0, draw=1)), t)
        return -log_prob.gather(1, cond["label"][:, None])[:, 0]


class Judged(NamedTuple):
    """What a classifier said of some noisy samples; everything is (b,).

    Attributes:
        correct: whether the likeliest class is the label.
        confidence: probability of the likeliest class; where a classifier is calibrated it has the mean of `correct`.
        cross_entropy: -log p(label | x_t), in nats; that of a guess is the logarithm of the number of classes.
    """

    correct: Bool[Tensor, "b"]
    confidence: Float[Tensor, "b"]
    cross_entropy: Float[Tensor, "b"]


@unrecorded()
def judged(
    model: NoisyClassifier, x0: Float[Tensor, "b *event"], label: Int64[Tensor, "b"], t: Tensor, *, noise: Noise
) -> Judged:
    """How a classifier does at one time, on samples that it should not have been trained on.

    Args:
        model: the classifier.
        x0: clean samples in its space.
        label: of each.
        t: the time, () or (b,).
        noise: its draw 1 makes the states.
    """
    log_prob = model.log_prob(model.sde.perturb(x0, t, noise.normal(x0, draw=1)), t)
    best, found = log_prob.max(1)
    return Judged(found == label, best.exp(), -log_prob.gather(1, label[:, None])[:, 0])
