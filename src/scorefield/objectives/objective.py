"""The contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from scorefield._noise import Noise
from scorefield.processes import GaussianSDE
from scorefield.score import ScoreModule

Model = TypeVar("Model", bound=nn.Module, contravariant=True)


class Objective(ABC, Generic[Model]):
    """A loss for each sample of a kind of model, scores or classifiers; the caller takes the mean."""

    @property
    def differentiates(self) -> bool:
        """Whether the loss takes derivatives of the model by x, which compiled networks cannot give in training."""
        return False

    @property
    def extensive(self) -> bool:
        """Whether the loss is a sum over the data's dimensions, so that training divides it by their number."""
        return True

    @abstractmethod
    def __call__(
        self, model: Model, x0: Float[Tensor, "b *event"], *, noise: Noise, **cond: Tensor
    ) -> Float[Tensor, "b"]:
        """The losses of a batch of clean samples."""


def gaussian_process(model: ScoreModule, user: str) -> GaussianSDE:
    """The model's process, which must have a kernel p(x_t | x_0) in closed form."""
    if not isinstance(model.sde, GaussianSDE):
        raise TypeError(
            f"{user} needs a process whose p(x_t | x_0) is Gaussian; got {type(model.sde).__name__}: use "
            "SlicedScoreMatching or PathTarget"
        )
    return model.sde
