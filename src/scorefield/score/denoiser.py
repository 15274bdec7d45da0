"""Scores that are torch modules, and `Denoiser`, which networks and guidance of Gaussian processes build on.

For x_t = alpha x_0 + sigma eps, four views of one function (Tweedie's formula):

    denoiser   D = E[x_0 | x_t]                 noise      ehat = E[eps | x_t] = (x_t - alpha D) / sigma
    score      grad log p_t = -ehat / sigma     velocity   v = alpha ehat - sigma D
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from scorefield._derivatives import followed
from scorefield._device import double, moved
from scorefield._inputs import Time, as_tensor, matching
from scorefield._shapes import factor
from scorefield.processes import SDE, GaussianSDE, as_point
from scorefield.score.protocols import LevelMap, LogDensity, Score


class ScoreModule(nn.Module, ABC):
    """A score that is a torch module, so that it can be trained, conditioned, saved and moved.

    `t` is a number, or a float64 tensor, () or (b,), best on the host, where what follows from it is computed.
    Conditioning tensors have one row a sample, or one row or none for the whole batch.
    """

    sde: SDE

    @abstractmethod
    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """grad_x log p_t(x | cond)."""

    def given(self, **cond: Tensor | float) -> ScoreModule:
        """This model under a condition, for example `model.given(label=3)` or one label for each sample."""
        return ConditionedScore(self, {name: as_tensor(value, name) for name, value in cond.items()})

    def select(self, rows: Int64[Tensor, "m"], n: int) -> ScoreModule:
        """The model for some rows of a batch of n; a wrapper that holds one value a sample keeps those of the rows."""
        del rows, n
        return self


class Denoiser(ScoreModule):
    """D(x, t) = E[x_0 | x_t = x] for a Gaussian process; a subclass gives `forward`.

    Of D alone the noise is a difference, which cancels where sigma is small: in a precision u, 6e-8 for float32, it
    errs by u |x| / sigma, and the score by u |x| / sigma^2. At sigma = 1e-3 that is 0.06 |x|, at 1e-4 nothing is left.
    A subclass that has the noise without the difference gives `predictions` too, as all in this library do: then each
    view is as precise, at every time, as what it is made of.
    """

    def __init__(self, sde: GaussianSDE) -> None:
        super().__init__()
        self.sde: GaussianSDE = sde  # pyright: ignore[reportIncompatibleVariableOverride]

    def __call__(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """`forward`, once the states and the time are looked at, and that its result is of their shape."""
        x, t = as_point(self.sde, x, t)
        return matching(super().__call__(x, t, **cond), x, self)

    @abstractmethod
    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The posterior mean of the clean sample."""

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """D and ehat by one call of the network, x = alpha D + sigma ehat; here ehat = (x - alpha D) / sigma."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma = self._scales(x, t)
        denoised = self(x, t, **cond)
        return denoised, (x - alpha * denoised) / sigma

    def noise(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """ehat."""
        return self.predictions(x, t, **cond)[1]

    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """-ehat / sigma."""
        x, t = as_point(self.sde, x, t)
        return self.noise(x, t, **cond) / -factor(self.sde.sigma(t), x)

    def velocity(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """alpha ehat - sigma D  (Salimans & Ho 2022)."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma = self._scales(x, t)
        denoised, noise = self.predictions(x, t, **cond)
        return alpha * noise - sigma * denoised

    def parts(
        self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor
    ) -> tuple[tuple[float, ...], tuple[Float[Tensor, "b *event"], ...]]:
        """w_i, which add up to 1, and D_i, of D = sum_i w_i D_i: itself alone unless it is guidance; `t` is ()."""
        return (1.0,), (self(x, t, **cond),)

    def given(self, **cond: Tensor | float) -> Denoiser:
        """This model under a condition, for example `model.given(label=3)` or one label for each sample."""
        kind = ConditionedDensity if isinstance(self, LogDensity) else Conditioned
        kind = ConditionedMap if isinstance(self, LevelMap) else kind
        return kind(self, {name: as_tensor(value, name) for name, value in cond.items()})

    def select(self, rows: Int64[Tensor, "m"], n: int) -> Denoiser:
        """The model for some rows of a batch of n; a wrapper that holds one value a sample keeps those of the rows."""
        del rows, n
        return self

    def _scales(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t = double(t)
        return factor(self.sde.alpha(t), x), factor(self.sde.sigma(t), x)


class _Conditions:
    """Conditions by name: tensors with one row a sample, or one row or () for all samples."""

    cond: dict[str, Tensor]

    def _bound(self, x: Tensor, cond: dict[str, Tensor]) -> dict[str, Tensor]:
        bound = {name: moved(_for_all(name, value, len(x)), x.device) for name, value in self.cond.items()}
        if twice := bound.keys() & cond.keys():
            raise ValueError(f"the model is under a condition already; got {', '.join(sorted(twice))} twice")
        return bound | cond

    def _selected(self, rows: Tensor, n: int) -> dict[str, Tensor]:
        whole = {name: _for_all(name, value, n) for name, value in self.cond.items()}
        return {name: value[rows.to(value.device)] if value.ndim else value for name, value in whole.items()}


def _for_all(name: str, value: Tensor, n: int) -> Tensor:
    """A condition with a row for each of n samples, or () for all of them; a single row with axes is that of all."""
    if value.ndim == 0 or len(value) == n:
        return value
    if value.ndim > 1 and len(value) == 1:
        return value.expand(n, *value.shape[1:])
    raise ValueError(
        f"the condition {name!r} has {len(value)} rows for {n} samples: give one row a sample, or a scalar"
    )


class ConditionedScore(_Conditions, ScoreModule):
    """A score with its conditioning filled in.

    Args:
        model: takes the conditions as keywords.
        cond: tensors with one row a sample, or one row or () for all samples.
    """

    def __init__(self, model: ScoreModule, cond: dict[str, Tensor]) -> None:
        super().__init__()
        self.sde, self.model, self.cond = model.sde, model, cond

    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The inner score under the condition."""
        return self.model.score(x, t, **self._bound(x, cond))

    def select(self, rows: Int64[Tensor, "m"], n: int) -> ScoreModule:
        """Keeps the rows of each condition."""
        return ConditionedScore(self.model.select(rows, n), self._selected(rows, n))


class Conditioned(_Conditions, Denoiser):
    """A denoiser with its conditioning filled in.

    Args:
        denoiser: takes the conditions as keywords.
        cond: tensors with one row a sample, or one row or () for all samples.
    """

    def __init__(self, denoiser: Denoiser, cond: dict[str, Tensor]) -> None:
        super().__init__(denoiser.sde)
        self.denoiser = denoiser
        self.cond = cond

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The inner denoiser under the condition."""
        return self.denoiser(x, t, **self._bound(x, cond))

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """The inner ones."""
        return self.denoiser.predictions(x, t, **self._bound(x, cond))

    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The inner one."""
        return self.denoiser.score(x, t, **self._bound(x, cond))

    def velocity(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The inner one."""
        return self.denoiser.velocity(x, t, **self._bound(x, cond))

    def parts(
        self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor
    ) -> tuple[tuple[float, ...], tuple[Float[Tensor, "b *event"], ...]]:
        """Those of the inner denoiser under the condition."""
        return self.denoiser.parts(x, t, **self._bound(x, cond))

    def select(self, rows: Int64[Tensor, "m"], n: int) -> Denoiser:
        """Keeps the rows of each condition."""
        return type(self)(self.denoiser.select(rows, n), self._selected(rows, n))


class ConditionedDensity(Conditioned):
    """The same of a model that knows its log-density."""

    def log_density(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b"]:
        """log p_t(x | cond) up to a constant."""
        inner: Any = self.denoiser
        return inner.log_density(x, t, **self._bound(x, cond))


class ConditionedMap(Conditioned):
    """The same of a flow map."""

    def aim(self, x: Float[Tensor, "b *event"], t: Time, to: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The inner one under the condition."""
        inner: Any = self.denoiser
        return inner.aim(x, t, to, **self._bound(x, cond))

    def jump(self, x: Float[Tensor, "b *event"], t: Time, to: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The inner one under the condition."""
        inner: Any = self.denoiser
        return inner.jump(x, t, to, **self._bound(x, cond))


class FromScore(Denoiser):
    """The denoiser (x + sigma^2 s) / alpha of a plain score function, whose score and noise are its own.

    In a precision u the denoiser errs by u |x| / alpha, which is much where sigma / alpha is large.

    Args:
        model: a score for a Gaussian process.
    """

    def __init__(self, model: Score) -> None:
        if not isinstance(model.sde, GaussianSDE):
            raise TypeError(
                f"a denoiser exists only for a Gaussian process; got {type(model.sde).__name__}: "
                "use a solver that needs the score alone, such as EulerMaruyama, on a grid that does not end at 0"
            )
        super().__init__(model.sde)
        self.model = model

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """(x + sigma^2 s) / alpha."""
        return self.predictions(x, t, **cond)[0]

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """(x + sigma^2 s) / alpha and -sigma s."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma = self._scales(x, t)
        score = self._seen(x, t, cond)
        return (x + sigma**2 * score) / alpha, -sigma * score

    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """S itself."""
        x, t = as_point(self.sde, x, t)
        return self._seen(x, t, cond)

    def _seen(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        return matching(followed(lambda x: self.model.score(x, t, **cond), x), x, self.model)


def as_denoiser(model: Score) -> Denoiser:
    """The model itself if it is a `Denoiser`, else the one that its score gives."""
    return model if isinstance(model, Denoiser) else FromScore(model)
