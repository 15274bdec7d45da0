"""Score matching without a kernel: the error of a score from its own derivatives, by integration by parts.

    E 1/2 |s - grad log p|^2_Lambda = E [div(Lambda s) + 1/2 s^T Lambda s] + const

(Hyvarinen 2005). It needs states x ~ p alone, so it takes any process, and clean data as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import lasting, recording
from scorefield._noise import Noise
from scorefield._shapes import event_size, event_sum
from scorefield.objectives.objective import Objective
from scorefield.objectives.states import Drawn, States, usual_states
from scorefield.score import ScoreModule

MOST = 256  # dimensions whose derivatives are taken one by one


@dataclass(frozen=True)
class ImplicitScoreMatching(Objective[ScoreModule]):
    """div(Lambda s) + 1/2 s^T Lambda s with the exact divergence: d backward passes, so for small events.

    Args:
        states: where; by default `Perturbed` for a Gaussian process, `Simulated` for another, `Clean` for a
            `PlainScore`.
    """

    states: States | None = None

    @property
    def differentiates(self) -> bool:
        """True."""
        return True

    def __call__(
        self, model: ScoreModule, x0: Float[Tensor, "b *event"], *, noise: Noise, **cond: Tensor
    ) -> Float[Tensor, "b"]:
        """The loss of each sample."""
        d = event_size(x0)
        if d > MOST:
            raise ValueError(
                f"the exact trace takes a backward pass for each dimension; got {d}: use SlicedScoreMatching"
            )
        unit = torch.eye(d, dtype=x0.dtype, device=x0.device).reshape(d, *x0.shape[1:])
        drawn, s, forms = _forms(self.states, model, x0, list(unit), noise, cond)
        return sum(forms, 0.5 * event_sum(drawn.weight * s**2))


@dataclass(frozen=True)
class SlicedScoreMatching(Objective[ScoreModule]):
    """v^T grad(Lambda s) v + 1/2 s^T Lambda s, the mean over random v with E v v^T = I  (Song et al. 2019).

    One backward pass for each projection instead of one for each dimension; its mean over v is `ImplicitScoreMatching`.

    Args:
        states: where; by default `Perturbed` for a Gaussian process, `Simulated` for another, `Clean` for a
            `PlainScore`.
        projections: number of vectors v for each sample, 1 to 255.
        gaussian: draw v from N(0, I) instead of random signs, which have the smaller variance.
        reduced: take 1/2 s^T Lambda s as it is (SSM-VR of the paper); else by 1/2 (v . Lambda^(1/2) s)^2, whose mean
            it is.
    """

    states: States | None = None
    projections: int = 1
    gaussian: bool = False
    reduced: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.projections <= 255:
            raise ValueError(f"projections must lie in 1..255; got {self.projections}")

    @property
    def differentiates(self) -> bool:
        """True."""
        return True

    def __call__(
        self, model: ScoreModule, x0: Float[Tensor, "b *event"], *, noise: Noise, **cond: Tensor
    ) -> Float[Tensor, "b"]:
        """The loss of each sample."""
        parts = [noise.child(k + 1) for k in range(self.projections)]
        vectors = [part.normal(x0) if self.gaussian else part.rademacher(x0) for part in parts]
        drawn, s, forms = _forms(self.states, model, x0, vectors, noise.child(0), cond)
        half = drawn.weight.sqrt() * s
        squares = [event_sum(half**2)] if self.reduced else [event_sum(v * half) ** 2 for v in vectors]
        return torch.stack(forms).mean(0) + 0.5 * torch.stack(squares).mean(0)


def _forms(
    states: States | None,
    model: ScoreModule,
    x0: Tensor,
    vectors: Sequence[Tensor],
    noise: Noise,
    cond: dict[str, Tensor],
) -> tuple[Drawn, Tensor, list[Tensor]]:
    """Noisy states, the scores there, and v^T grad(Lambda s) v for each vector v."""
    recorded = torch.is_grad_enabled()
    with recording():
        drawn = (states or usual_states(model))(model, x0, noise)
        s = model.score(drawn.x, drawn.t, **cond)
        weighted = drawn.weight * s
        forms: list[Tensor] = []
        for k, v in enumerate(vectors):
            last = k == len(vectors) - 1
            (product,) = torch.autograd.grad(
                weighted,
                drawn.x,
                lasting(v).expand_as(weighted),
                create_graph=recorded,
                retain_graph=recorded or not last,
            )
            forms.append(event_sum(product * v))
    return drawn, s, forms
