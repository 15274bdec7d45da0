"""Traces of a Jacobian from its quadratic forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import Noise
from scorefield._shapes import event_size

MOST = 253  # the parts of a sample's noise from there on draw its noise levels and dequantise it
FEWEST = 16  # dimensions from which on estimates by sign vectors are nearly normal


class Directions(NamedTuple):
    """Vectors v of each sample, kept along its path so that the forms v . J v are smooth functions of the place.

    tr J is estimated by the sum of the forms of `exact`, which are orthonormal, plus the form of any one of `probes`,
    which have E[v v^T] = I - sum of v v^T over `exact`.
    """

    exact: Float[Tensor, "m b *event"]
    probes: Float[Tensor, "K b *event"]

    def traces(self, forms: Float[Tensor, "forms b"]) -> Float[Tensor, "b K"]:
        """The estimates from the forms; a single one without probes.

        |v|^2 has the mean d - m, so that beta (|v|^2 - (d - m)) may be taken from the form of a probe, with beta from
        the others: the forms of the other probes per |v|^2, and a little of the mean of the exact ones, since of probes
        that happen to lie in the span of `exact` nothing is left. For sign vectors with m = 0 the correction is 0.
        """
        m, k = len(self.exact), len(self.probes)
        exact, probed = forms[:m].sum(0), forms[m:]
        if k == 0:
            return exact[:, None]
        rest = self.probes[0, 0].numel() - m
        if m and rest:
            squares, little = self.probes.reshape(*probed.shape, -1).square().sum(2), 1e-3 * rest
            beta = (probed.sum(0) - probed + little * exact / m) / (squares.sum(0) - squares + little)
            probed = probed - beta * (squares - rest)
        return (exact + probed).mT

    @property
    def estimates(self) -> int:
        """How many independent estimates with a known spread they make: 0 if nothing is random.

        One in few dimensions, where sign vectors coincide up to their sign now and then, so that they agree in their
        error as well: of two intervals at 95 % one fails in the plane, and one in ten in 6 dimensions.
        """
        d = math.prod(self.exact.shape[2:])
        random = len(self.probes) if len(self.exact) < d else 0
        return random if d >= FEWEST else min(1, random)


@runtime_checkable
class Divergence(Protocol):
    """A rule for tr J."""

    def directions(
        self, like: Float[Tensor, "b *event"], noise: Noise, products: Callable[[Tensor], Tensor]
    ) -> Directions:
        """The vectors of each sample.

        Args:
            like: the samples.
            noise: theirs.
            products: rows (m, b, *event) -> their products v^T J with the Jacobian of the denoiser at `SKETCHED`, for
                rules that look at it first; it costs a network call.
        """
        ...


@dataclass(frozen=True)
class ExactTrace:
    """The d unit vectors: d products with the Jacobian for each network call, so for small events."""

    def directions(
        self, like: Float[Tensor, "b *event"], noise: Noise, products: Callable[[Tensor], Tensor]
    ) -> Directions:
        """The unit vectors."""
        d = event_size(like)
        unit = torch.eye(d, dtype=like.dtype, device=like.device)
        return Directions(unit.reshape(d, 1, *like.shape[1:]).expand(d, *like.shape), like.new_empty((0, *like.shape)))


@dataclass(frozen=True)
class Hutchinson:
    """E[v . J v] = tr J for random signs v  (Hutchinson 1990; Grathwohl et al. 2019, "FFJORD").

    For tens of dimensions and more; `ExactTrace` costs no more in few.

    Args:
        probes: K sign vectors for each sample; a standard error takes at least 2, and 16 dimensions.
    """

    probes: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.probes <= MOST:
            raise ValueError(f"probes must lie in 1..{MOST}; got {self.probes}")

    def directions(
        self, like: Float[Tensor, "b *event"], noise: Noise, products: Callable[[Tensor], Tensor]
    ) -> Directions:
        """K sign vectors for each sample."""
        return Directions(like.new_empty((0, *like.shape)), _signs(like, noise, range(self.probes)))


@dataclass(frozen=True)
class HutchPlusPlus:
    """tr J = tr Q^T J Q + E[v . J v],  v = (I - Q Q^T) g,  Q a basis of J^T S, g and S random signs.

    Exact on the few directions that Q spans, probes for the rest, whose variance is what remains without them
    (Meyer et al. 2021, "Hutch++"). Two things differ from the paper. The Jacobian changes along the path, so that Q
    comes from a single place on it and is kept, like the probes. And the length of v is random, to which a multiple of
    the identity in J, which is large here and costs sign vectors nothing, would add its variance: `Directions` takes it
    out.

    It pays where a few directions differ much from the others and are spread over the components; where these are the
    directions themselves, `Hutchinson` is exact already.

    Args:
        probes: K sign vectors for each sample; a standard error takes at least 2, and 16 dimensions.
        sketch: directions of Q, at most d; one more network call and as many products for the sketch.
    """

    probes: int = 8
    sketch: int = 8

    def __post_init__(self) -> None:
        if not (self.probes >= 1 and self.sketch >= 1 and self.probes + self.sketch <= MOST):
            raise ValueError(
                f"probes and sketch must be at least 1 and {MOST} together at most; got {self.probes} and {self.sketch}"
            )

    def directions(
        self, like: Float[Tensor, "b *event"], noise: Noise, products: Callable[[Tensor], Tensor]
    ) -> Directions:
        """Q, and the vectors orthogonal to it."""
        m, d = self.sketch, event_size(like)
        if m > d:
            raise ValueError(f"a sketch of {m} directions needs as many dimensions; got {d}: use ExactTrace()")
        signs = _signs(like, noise, range(m + self.probes))
        sketched = products(signs[:m]).reshape(m, -1, d)
        basis = torch.linalg.qr(sketched.permute(1, 2, 0)).Q  # (b, d, m)
        probes = signs[m:].reshape(self.probes, -1, d).permute(1, 2, 0)
        probes = probes - basis @ (basis.mT @ probes)
        exact, rest = (v.permute(2, 0, 1).reshape(-1, *like.shape) for v in (basis, probes))
        return Directions(exact, rest)


def _signs(like: Tensor, noise: Noise, parts: range) -> Float[Tensor, "K b *event"]:
    return torch.stack([noise.child(k).rademacher(like) for k in parts])
