"""All methods with operators that have a precision of their own, and with complex measurements of several coils."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefield import VP, Noise, sample
from scorefield.analytic import GaussianMixture
from scorefield.guidance import (
    DDNM,
    DDRM,
    DPS,
    DDNMPlus,
    DiffPIR,
    GuidedSolver,
    MomentMatching,
    PiGDM,
    RePaint,
    Replacement,
    ScoreALD,
)
from scorefield.operators import (
    SVD,
    Clip,
    Compose,
    Dense,
    Diagonal,
    FourierMask,
    FromFunction,
    Gaussian,
    Linear,
    PhaseRetrieval,
    Stack,
)
from scorefield.operators.operator import flat
from scorefield.operators.precision import any_precision
from scorefield.operators.svd import matrix_of
from scorefield.posterior import DAPS, REDdiff, SplitGibbs, TwistedSMC
from scorefield.score import EDMPrecond, Preconditioned
from scorefield.solvers import DDIM

pytestmark = pytest.mark.usefixtures("unchecked")

TIMES = [1.0, 0.5, 0.1, 0.0]
LOOPS: dict[Any, dict[str, Any]] = {
    TwistedSMC: {"count": 3, "steps": 3},
    SplitGibbs: {"rounds": 3, "steps": 2},
    DAPS: {"levels": 3, "steps": 2},
    REDdiff: {"steps": 3},
}
METHODS = [
    *(DDNM, DDRM, DPS, DDNMPlus, DiffPIR, MomentMatching, PiGDM, Replacement, RePaint, ScoreALD),
    *LOOPS,
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=torch.float64))[0]


def samples(method: Any, denoiser: Any, operator: Any, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Two of a method."""
    noise = Gaussian(0.3)
    if method in LOOPS:
        return method(denoiser, operator, y, noise, **LOOPS[method]).sample(shape, seeds=range(2))
    if issubclass(method, GuidedSolver):
        return sample(denoiser, shape, TIMES, method(operator, y, noise), seeds=range(2))
    return sample(method(denoiser, operator, y, noise), shape, TIMES, DDIM(), seeds=range(2))


D, M = 6, 3
MATRIX = normal(M, D)


class Own:
    """Of another library: in one precision, which it refuses or casts to."""

    def __init__(self, dtype: torch.dtype, casts: bool, matrix: Tensor = MATRIX) -> None:
        self.matrix, self.casts = matrix.to(dtype), casts

    def _taken(self, v: Tensor) -> Tensor:
        return v.to(self.matrix.dtype) if self.casts else v

    def A(self, x: Tensor) -> Tensor:
        return self._taken(x) @ self.matrix.mT

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self._taken(y) @ self.matrix

    def A_dagger(self, y: Tensor) -> Tensor:
        return self._taken(y) @ torch.linalg.pinv(self.matrix).mT


class Shrinks(nn.Module):
    """A network of one number."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((), 0.3, dtype=dtype))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.factor * x


@pytest.mark.parametrize("method", METHODS)
def test_a_precision_of_their_own_is_no_matter(method):
    """Samples in the model's, the same as of the matrix, up to the least precision of both; y in any."""
    for model in (torch.float32, torch.float64):
        denoiser = Preconditioned(Shrinks(model), VP(), EDMPrecond(1.0))
        y = normal(1, M, seed=9)
        wanted = samples(method, denoiser, Dense(MATRIX), y, (D,))
        for own in (torch.float32, torch.float64):
            for casts in (False, True):
                got = samples(method, denoiser, Own(own, casts), y.to(own), (D,))
                assert got.dtype == model
                tolerance = 1e-9 if model == own == torch.float64 else 2e-4
                torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def test_parts_and_what_is_not_linear_have_precisions_of_their_own():
    """One by one, side by side and before a function; a float32 operator of a float64 state and the reverse."""
    x = normal(2, D, seed=3)
    for own, state in ((torch.float32, torch.float64), (torch.float64, torch.float32)):
        part, v = Own(own, casts=False), x.to(state)
        plain = MATRIX.to(state)
        for operator, wanted in (
            (Compose(Diagonal(2.0), part), 2 * v @ plain.mT),
            (Stack(part, part, event_shape=(D,)), (v @ plain.mT).repeat(1, 2)),
            (Clip(-0.5, 0.5, part), (v @ plain.mT).clamp(-0.5, 0.5)),
            (PhaseRetrieval(part), (v @ plain.mT).square()),
            (FromFunction(part.A, (D,)), v @ plain.mT),
        ):
            y = operator.A(v)
            assert y.dtype == state
            torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)
            if isinstance(operator, Linear):
                torch.testing.assert_close((y * y).sum(), (v * operator.A_adjoint(y)).sum(), rtol=1e-5, atol=1e-5)


class Broken:
    """Has something else to complain of than a precision."""

    def A(self, x: Tensor) -> Tensor:
        raise RuntimeError("out of memory" if x.dtype == torch.float32 else "expected Float but found Double")


def test_the_error_of_an_operator_is_its_own():
    """Not that of the second try, which would blame a precision."""
    with pytest.raises(RuntimeError, match="out of memory"):
        any_precision(Broken()).A(torch.zeros(2, D))


def test_rounding_of_an_operator_makes_no_singular_values():
    """In float32 a row that is the sum of others is not quite: in float64 that would count as measured."""
    rows = normal(4, D, seed=2)
    dependent = torch.cat((rows, rows[:1] + rows[1:2] + rows[2:3] / 3))
    exact = SVD(Dense(dependent), (D,))
    for casts in (False, True):
        operator = Own(torch.float32, casts, dependent)
        svd = SVD(operator, (D,))
        assert len(svd.values) == len(exact.values) == 4
        torch.testing.assert_close(svd.values, exact.values, rtol=1e-5, atol=0)
        assert len(SVD(Compose(Diagonal(2.0), operator), (D,)).values) == 4
    assert torch.linalg.svdvals(dependent.float().double())[-1] > 1e-9  # what float32 leaves


SHAPE = (2, 4, 3)
COILS = torch.view_as_complex(normal(2, 4, 3, 2, seed=4))
SENSE = FourierMask(normal(4, 3, seed=1) > 0, True, centred=True, sensitivities=COILS)


@pytest.mark.parametrize("method", METHODS)
def test_complex_measurements_of_coils_are_pairs_of_real_ones(method: Callable[..., Any]):
    """Samples by SENSE are those of its real matrix: a complex number counts as two. Kills a missing conj."""
    means, stds = normal(2, *SHAPE, seed=6), torch.tensor([0.3, 0.5]).double()
    prior = GaussianMixture(VP(), torch.tensor([0.4, 0.6]).double(), means, stds)
    y = SENSE.A(normal(1, *SHAPE, seed=7))
    assert y.shape[1] == 2 and y.is_complex()
    got = samples(method, prior, SENSE, y, SHAPE)
    wanted = samples(method, prior, Dense(matrix_of(SENSE, SHAPE), SHAPE), flat(y), SHAPE)
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)
