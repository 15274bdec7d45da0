"""A solver as the linear map from independent normal numbers to its output, and the probes that tell whether it is one.

The certificates of `scorefield.certify` rest on it: such a map is known by what it makes of unit vectors. Whether a
solver is one is tried on random numbers that differ in every row, component and draw: two analytic functions that agree
at a random point agree everywhere, with probability 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.solvers import Solver

SIZES = (1.0, 1.0, 1.0, 1.0, 1.0, 1e-3, 1e3)  # of the random rows: limits and thresholds show at one of them
ROWS = 5  # of ordinary size, the first, which are run without the others: a switch for the whole batch shows as well
LARGE = 48  # rows, at least, of a batch that shows what is done from some number on
MULTIPLE = 12  # of rows in it: what is shared in pairs, threes or fours shows
TOLD_APART = 64  # components, at most, when the reason is looked for

Name = tuple[int, tuple[int, ...], int]
Value = Callable[[int, Tensor], Tensor]


class Uncertified(ValueError):
    """A solver whose output has no law that follows from unit vectors, and why."""


@dataclass(frozen=True)
class Response:
    """What a solver makes of normal numbers z_0, z_1, ...: z_0 times `std` is the start, the others are its draws.

    Attributes:
        solver: the solver.
        move: the output for states, the numbers of their rows, and noise.
        std: (*event), of the start.
        numbers: of the draws, by name.
    """

    solver: Solver
    move: Callable[[Tensor, Tensor, NoiseSource], Tensor]
    std: Float[Tensor, "*event"]
    numbers: dict[Name, int] = field(default_factory=dict[Name, int])

    def to(self, rows: Tensor, value: Value) -> Float[Tensor, "b *event"]:
        """The output of rows with these numbers, whose z_k is value(k, like).

        Raises:
            Uncertified: the solver draws noise or returns states of another shape than its states', or fails on them.
        """
        shape = (len(rows), *self.std.shape)

        def checked(number: int, like: Tensor) -> Tensor:
            if like.shape != shape:
                raise self.refusal(f"it draws noise of shape {tuple(like.shape)} for states of shape {shape}")
            return value(number, like)

        source = Source(self.numbers, checked)
        unscaled = source.normal(self.std.new_empty(shape))  # named as in `sample`: who draws it again repeats it
        try:
            output = self.move(self.std * unscaled, rows, source)
        except (ValueError, MemoryError):
            raise
        except Exception as error:  # a solver is anybody's code
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise self.refusal(f"it fails on states of shape {shape} ({reason})") from error
        if output.shape != shape or output.dtype != self.std.dtype:
            got = f"{output.dtype} of shape {tuple(output.shape)}"
            raise self.refusal(f"it makes {got} of {self.std.dtype} of shape {shape}")
        return output

    def coefficients(self) -> Float[Tensor, "k *event"]:
        """The output for the unit vectors z_k = 1, of all components at once, without a check that it is linear."""
        self.to(torch.arange(1), silence)
        return self.to(torch.arange(len(self.numbers)), lambda k, like: unit_vector(k - 1, like))

    def checked_coefficients(self) -> Float[Tensor, "k *event"]:
        """The same, after a check on random rows: few, negative in reverse order, one, and many after the unit vectors.

        Raises:
            Uncertified: an output is not the sum of its coefficients, or see `to`.
        """
        rows, points = torch.arange(ROWS), _Points(self.std)
        apart = self.to(rows, points.of(rows))
        turned = -self.to(rows.flip(0), points.of(rows.flip(0), -1.0)).flip(0)
        alone = self.to(rows[:1], points.of(rows[:1]))
        units = len(self.numbers)
        count = max(LARGE, math.ceil((units + ROWS) / MULTIPLE) * MULTIPLE)
        among = torch.arange(count - units) % len(SIZES)

        def joined(number: int, like: Tensor) -> Tensor:
            if number >= units:
                raise self.refusal("what it draws depends on its states")
            return torch.cat((unit_vector(number - 1, like[:units]), points.of(among)(number, like)))

        both = self.to(torch.arange(count), joined)
        coefficients, within = both[:units], both[units:] / points.sizes[among]
        if not bool(coefficients.isfinite().all()):
            raise self.refusal("its states become infinite or NaN")
        predicted = torch.zeros_like(points.z(0))
        for k, coefficient in enumerate(coefficients):
            predicted.addcmul_(points.z(k), coefficient)
        rounding = 1e-10 * float(coefficients.abs().max()) + 1e-12 * float(self.std.max())

        def same(a: Tensor, b: Tensor) -> bool:
            return torch.allclose(a, b, rtol=1e-8, atol=rounding, equal_nan=True)

        few = predicted[:ROWS]
        if not (same(apart, few) and same(turned, few) and same(alone, few[:1]) and same(within, predicted[among])):
            ordinary = among < ROWS
            raise self.refusal(self._reason(points, apart, within[ordinary], among[ordinary], same))
        return coefficients

    def _reason(
        self, points: _Points, apart: Tensor, within: Tensor, among: Tensor, same: Callable[[Tensor, Tensor], bool]
    ) -> str:
        """Why the outputs of random rows, by themselves and among those of the large batch, are not as predicted."""
        rows = torch.arange(ROWS)
        first, again = (self.to(rows, points.of(rows)) for _ in range(2))
        if not same(apart, first) or not torch.equal(first, again):
            return "it makes other states of the same ones and the same noise: it remembers, or draws by other means"
        alone = torch.cat([self.to(row[None], points.of(row[None])) for row in rows])
        turned = self.to(rows.flip(0), points.of(rows.flip(0))).flip(0)
        if not (same(alone, first) and same(turned, first) and same(within, first[among])):
            return "what becomes of a sample depends on its batch: the others, their number or their order"
        told = min(self.std.numel(), TOLD_APART)
        mask = torch.eye(told, self.std.numel()).to(self.std).reshape(-1, *self.std.shape)
        mask = torch.cat((mask, torch.zeros_like(mask[:1])))
        each = self.to(torch.arange(told + 1), lambda k, like: mask * points.of(rows[:1])(k, like))
        least = 1e-9 * float(each.abs().max())
        if (moved := float(each[told].abs().max())) > least:
            return f"its step is not a linear function: it moves a state of 0 without noise by {moved:.2g}"
        others = each[:told].flatten(1)[:, :told].clone().fill_diagonal_(0)
        if float(others.abs().max()) > least:
            return "what becomes of a component depends on other components or their noise"
        return "its step is not a linear function of each component and its noise"

    def refusal(self, reason: str) -> Uncertified:
        """An error that says so."""
        return Uncertified(f"{self.solver} cannot be certified: {reason}")


class _Points:
    """Random values of the draws in a few rows, each row of its own size: always the same ones."""

    def __init__(self, std: Tensor) -> None:
        self.shape = len(SIZES), *std.shape
        self.sizes = std.new_tensor(SIZES).reshape(-1, *[1] * std.ndim)
        self.generator = torch.Generator().manual_seed(0)
        self.drawn: list[Tensor] = []

    def z(self, number: int) -> Tensor:
        """Those of a draw, before they are multiplied by the sizes."""
        while len(self.drawn) <= number:
            self.drawn.append(torch.randn(self.shape, dtype=self.sizes.dtype, generator=self.generator))
        return self.drawn[number]

    def of(self, rows: Tensor, sign: float = 1.0) -> Value:
        """Those of every draw, in some of the rows."""
        sizes = sign * self.sizes[rows]
        return lambda number, like: sizes * self.z(number)[rows]


@dataclass(frozen=True)
class Source(NoiseSource):
    """Noise whose value is a function of the number of the draw, counted by name."""

    numbers: dict[Name, int]
    value: Value
    step: int = 0
    path: tuple[int, ...] = ()

    def at(self, step: int) -> Source:
        """The source of a step."""
        return replace(self, step=step)

    def child(self, part: int) -> Source:
        """The source of a part."""
        return replace(self, path=(*self.path, part))

    def select(self, rows: Tensor) -> Source:
        """Refuses."""
        raise Uncertified("a solver that treats samples differently, as adaptive ones do, cannot be certified")

    def uniform(self, like: Tensor, draw: int = 0) -> Tensor:
        """Refuses."""
        raise Uncertified("a solver that accepts and refuses at random cannot be certified")

    def normal(self, like: Tensor, draw: int = 0) -> Tensor:
        """The value."""
        return self.value(self.numbers.setdefault((self.step, self.path, draw), len(self.numbers)), like)


def silence(number: int, like: Tensor) -> Tensor:
    """No noise."""
    del number
    return torch.zeros_like(like)


def unit_vector(number: int, like: Tensor) -> Tensor:
    """1 in the draw's own row, which comes after one of the start."""
    z = torch.zeros_like(like)
    z[1 + number] = 1
    return z
