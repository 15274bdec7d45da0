"""Training one network with and without its labels."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import Noise
from scorefield.objectives.denoising import DenoisingScoreMatching
from scorefield.objectives.objective import Objective
from scorefield.score import ScoreModule

NO_LABEL = -1


@dataclass(frozen=True)
class LabelDropout(Objective[ScoreModule]):
    """Hides each sample's label with a probability, so that the network learns p(x) beside p(x | label).

    This is what classifier-free guidance asks for (Ho & Salimans 2022). A hidden label is -1.

    Args:
        objective: what to train.
        rate: probability in [0, 1].
    """

    objective: Objective = field(default_factory=DenoisingScoreMatching)
    rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must lie in [0, 1]; got {self.rate}")

    @property
    def differentiates(self) -> bool:
        """As of the objective."""
        return self.objective.differentiates

    @property
    def extensive(self) -> bool:
        """As of the objective."""
        return self.objective.extensive

    def __call__(
        self, model: ScoreModule, x0: Float[Tensor, "b *event"], *, noise: Noise, **cond: Tensor
    ) -> Float[Tensor, "b"]:
        """The objective's losses under the remaining labels."""
        if "label" not in cond:
            raise ValueError("LabelDropout needs labels: give data with labels, or train without it")
        label = cond["label"]
        hidden = noise.child(0).uniform(x0.new_empty(len(x0))) < self.rate
        cond = {**cond, "label": torch.where(hidden, NO_LABEL, label)}
        return self.objective(model, x0, noise=noise.child(1), **cond)
