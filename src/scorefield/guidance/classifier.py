"""Guidance by a classifier of noisy data."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._derivatives import lasting, leaf, recording
from scorefield._device import double, moved
from scorefield._inputs import Time, as_tensor
from scorefield._shapes import factor
from scorefield.guidance.extrapolation import check_process
from scorefield.guidance.measurement import Label
from scorefield.processes import as_point
from scorefield.score import Denoiser


@runtime_checkable
class ClassPosterior(Protocol):
    """p(c | x_t): class probabilities of noisy data, such as `NoisyClassifier`."""

    def log_prob(self, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b classes"]:
        """log p(c | x_t = x) of each class, differentiable by x; `t` is () or (b,)."""
        ...


class Classifier(Denoiser):
    """D + w (sigma^2 / alpha) grad_x log p(c | x_t = x): the score with w grad log p(c | x_t) added to it.

    (Song et al. 2021, section 5; Dhariwal & Nichol 2021, algorithms 1-2.) With w = 1 and the exact posterior of the
    class on p_t it is the denoiser of the class, by Bayes' rule. Any other w targets p_t(x) p(c | x_t)^w, of which
    `Extrapolation` says what a sampler reaches. A classifier of clean data will not do: it must have seen noisy ones.
    One call of the network, one of the classifier and its derivative a step.

    Args:
        denoiser: D, with or without a condition of its own.
        classifier: log p(c | x_t); if it has an attribute `sde`, that must be the denoiser's.
        label: c from 0, one for all samples or one for each, (b,).
        weight: w, finite.

    Raises:
        ValueError: the processes differ, or there is no such class.
    """

    def __init__(
        self, denoiser: Denoiser, classifier: ClassPosterior, label: int | Int64[Tensor, "*b"], weight: float = 1.0
    ) -> None:
        super().__init__(denoiser.sde)
        check_process(denoiser, classifier)
        if not math.isfinite(weight):
            raise ValueError(f"the weight of guidance must be finite; got {weight}")
        self.denoiser, self.classifier, self.weight = denoiser, classifier, weight
        self.wanted = lasting(as_tensor(label, "label"))

    @property
    def label(self) -> Label:
        """Asymptotically exact with weight 1 and the true classifier."""
        return Label.ASYMPTOTICALLY_EXACT if self.weight == 1 else Label.HEURISTIC

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The guided denoiser; further conditions go to the denoiser."""
        return self.denoiser(x, t, **cond) + self.weight * self._pull(x, t)

    def parts(
        self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor
    ) -> tuple[tuple[float, ...], tuple[Float[Tensor, "b *event"], ...]]:
        """1 - w of D and w of the class's denoiser by Bayes' rule; w = 0, 1 are one part."""
        if self.weight in (0, 1):
            return super().parts(x, t, **cond)
        denoised = self.denoiser(x, t, **cond)
        return (1 - self.weight, self.weight), (denoised, denoised + self._pull(x, t))

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """The guided D, and ehat - w sigma grad log p(c | x)."""
        x, t = as_point(self.sde, x, t)
        (alpha, sigma), shift = self._scales(x, t), self.weight * self._pull(x, t)
        denoised, noise = self.denoiser.predictions(x, t, **cond)
        return denoised + shift, noise - alpha / sigma * shift

    def select(self, rows: Int64[Tensor, "m"], n: int) -> Denoiser:
        """Keeps the rows of the labels and of the denoiser."""
        label = self._labels(n)[rows.to(self.wanted.device)] if self.wanted.ndim else self.wanted
        return Classifier(self.denoiser.select(rows, n), self.classifier, label, self.weight)

    def _pull(self, x: Tensor, t: Tensor) -> Tensor:
        """(sigma^2 / alpha) grad_x log p(c | x)."""
        t = double(t)
        return factor(self.sde.sigma(t) ** 2 / self.sde.alpha(t), x) * self._gradient(x, t)

    def _gradient(self, x: Tensor, t: Tensor) -> Tensor:
        """grad_x log p(c | x) of each row."""
        recorded = torch.is_grad_enabled()  # by a larger gradient that this one is part of
        with recording():
            if not (recorded and x.requires_grad):
                x = leaf(x)
            log_prob = self.classifier.log_prob(x, t)
            label, classes = self._labels(len(x)), log_prob.shape[1]
            if not 0 <= int(label.min()) <= int(label.max()) < classes:
                raise ValueError(
                    f"label: the classifier knows the classes 0 to {classes - 1}; got {label.unique().tolist()}"
                )
            total = log_prob.gather(1, moved(label, x.device)[:, None]).sum()  # each row depends on its own x alone
            return torch.autograd.grad(total, x, create_graph=recorded)[0]

    def _labels(self, n: int) -> Tensor:
        """One for each of n samples."""
        if self.wanted.ndim and len(self.wanted) != n:
            raise ValueError(
                f"the label has {len(self.wanted)} rows for {n} samples: give one a sample, or one for all"
            )
        return self.wanted.expand(n)
