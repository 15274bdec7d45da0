"""Conjugate gradients: exact where they should be, harmless where the matrix is no covariance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefield import Noise
from scorefield.operators import Dense, conjugate_gradients, pseudo_inverse


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=dtype))[0]


def spread(values: Tensor, seed: int = 2) -> Tensor:
    """A symmetric matrix with these eigenvalues."""
    q = torch.linalg.qr(normal(len(values), len(values), seed=seed).to(values)).Q
    return q * values @ q.mT


def by(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda v: v @ matrix.mT.to(v)


def solve(matrix: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 0.0) -> Tensor:
    (solution,) = conjugate_gradients(lambda v: (matrix(v),), b, iterations, tolerance)
    return solution


def test_further_functions_of_the_solution_come_with_it() -> None:
    matrix, other, b = spread(torch.logspace(-2, 1, 12, dtype=torch.float64)), normal(3, 12, seed=5), normal(5, 12)
    for iterations in (1, 4, 60):  # of the solution so far, too
        v, image = conjugate_gradients(lambda v: (v @ matrix, v @ other.mT), b, iterations)
        torch.testing.assert_close(image, v @ other.mT, rtol=1e-9, atol=1e-9)


def test_a_positive_definite_system_is_solved() -> None:
    matrix, b = spread(torch.logspace(-2, 1, 12, dtype=torch.float64)), normal(5, 12)
    expected = torch.linalg.solve(matrix, b.mT).mT
    torch.testing.assert_close(solve(by(matrix), b, 60), expected, rtol=1e-10, atol=1e-10)
    complex_b = torch.complex(b, b.flip(0))
    found = solve(by(matrix), complex_b, 60)
    torch.testing.assert_close(found, torch.complex(expected, expected.flip(0)), rtol=1e-10, atol=1e-10)


def test_as_many_iterations_as_distinct_eigenvalues_suffice() -> None:
    values = torch.tensor([1.0, 1, 1, 4, 4, 9, 9, 9], dtype=torch.float64)
    matrix, b = spread(values), normal(3, 2, 4)
    flat = torch.linalg.solve(matrix, b.reshape(3, 8).mT).mT.reshape(3, 2, 4)

    def apply(v: Tensor) -> Tensor:
        return (v.reshape(-1, 8) @ matrix).reshape(v.shape)

    torch.testing.assert_close(solve(apply, b, 3), flat, rtol=1e-10, atol=1e-10)
    assert float((solve(apply, b, 2) - flat).abs().max()) > 1e-3


def test_a_row_does_not_depend_on_the_others() -> None:
    # elementwise, so that no product of matrices rounds otherwise for other batches: to the bit
    values, b = torch.logspace(-1, 1, 9, dtype=torch.float64), normal(4, 9)
    extreme = torch.stack((torch.zeros(9), torch.full((9,), torch.nan), torch.full((9,), torch.inf))).double()
    together = solve(lambda v: v * values, torch.cat((b, extreme, b * 2.0**100)), 20, 1e-6)
    for k in range(4):
        alone = solve(lambda v: v * values, b[k : k + 1], 20, 1e-6)
        assert torch.equal(together[k], alone[0])
    assert bool((together[4] == 0).all())
    assert torch.equal(together[7:], together[:4] * 2.0**100)


def test_a_row_stops_at_the_tolerance() -> None:
    matrix, b = spread(torch.logspace(-3, 1, 30, dtype=torch.float64)), normal(4, 30)
    for tolerance in (1e-1, 1e-4, 1e-8):
        residual = b - by(matrix)(solve(by(matrix), b, 400, tolerance))
        size = residual.norm(dim=1) / b.norm(dim=1)
        assert float(size.max()) < tolerance < 1e4 * float(size.max())


def test_gradients_pass_through_the_solution() -> None:
    matrix, b = spread(torch.logspace(-1, 1, 6, dtype=torch.float64)), normal(3, 6)
    b[1] = 0  # a row that stops at once, and the others before the last iteration
    b.requires_grad_()
    (found,) = torch.autograd.grad(solve(by(matrix), b, 30, 1e-12)[::2].sum(), b)
    expected = torch.linalg.solve(matrix, torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found[2], expected, rtol=1e-6, atol=1e-8)
    assert bool((found[1] == 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e25])
def test_matrices_that_are_no_covariances_give_no_nan(dtype: torch.dtype, scale: float) -> None:
    # the Jacobian of a learned denoiser may be any of these; mutant: no guard of the curvature
    b = normal(6, 8, dtype=dtype)
    skew = normal(8, 8, seed=3, dtype=dtype)
    matrices = (
        torch.zeros(8, 8, dtype=dtype),
        -torch.eye(8, dtype=dtype),
        spread(torch.tensor([-2.0, -1, -0.1, 0, 0.1, 1, 2, 3], dtype=dtype)),
        skew - skew.mT,
        skew,
        spread(torch.full((8,), 0.01, dtype=dtype)) + 10 * (skew - skew.mT),
        torch.full((8, 8), torch.nan, dtype=dtype),
        torch.full((8, 8), 1e38, dtype=dtype),
        torch.finfo(dtype).max * torch.eye(8, dtype=dtype),
        torch.finfo(dtype).tiny / 100 * torch.eye(8, dtype=dtype),
    )
    for matrix in matrices:
        found = solve(by(matrix * scale), b, 100)
        assert bool(torch.isfinite(found).all()), matrix
    assert bool((solve(by(-torch.eye(8, dtype=dtype)), b, 9) == 0).all())


def test_it_stops_where_there_is_less_curvature_than_there_should_be() -> None:
    """M = V + S with a V that nearly cancels S along the second axis: the step there would be of a million."""
    diagonal, variance = torch.tensor([2.0, -0.009999]).double(), 0.01
    b = torch.tensor([[1.0, 1.0]]).double()

    def matrix(v: Tensor) -> tuple[Tensor]:
        return (diagonal * v + variance * v,)

    assert float(conjugate_gradients(matrix, b, 2)[0].abs().max()) > 1e4
    assert float(conjugate_gradients(matrix, b, 2, least=variance)[0].abs().max()) < 2
    each = torch.tensor([variance, 2 * variance]).double()
    assert float(conjugate_gradients(matrix, b, 2, least=each)[0].abs().max()) < 2


def learned(v: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A V A^T and V A^T, where A is the first number of x."""
    return lambda w: (w @ v[:1, :1].mT, w @ v[:, :1].mT)


@pytest.mark.parametrize("own", [1e-6, 1e-2, 0.2])
def test_a_step_goes_as_far_as_a_covariance_within_reach_lets_it(own: float) -> None:
    """|V A^T v|^2 <= reach^2 <v, A V A^T v>, which no V with so small a variance has for so large a covariance."""
    v, b, reach = torch.tensor([[own, 0.5], [0.5, 1.0]]).double(), torch.tensor([[0.3], [0.0]]).double(), 2.0
    _, moved = conjugate_gradients(learned(v), b, 5, reach=torch.tensor(reach).double())
    curvature = max(own, (0.25 + own**2) / reach**2)
    torch.testing.assert_close(moved, b / curvature @ v[:, :1].mT)
    assert float(conjugate_gradients(learned(v), b, 5)[1].abs().max()) > 0.7  # mutant: no reach
    each = torch.tensor([[reach], [reach]]).double()
    torch.testing.assert_close(conjugate_gradients(learned(v), b, 5, reach=each)[1], moved, rtol=0, atol=0)


def test_noise_hides_what_is_out_of_reach() -> None:
    v, b = torch.tensor([[-1e-3, 0.5], [0.5, 1.0]]).double(), torch.tensor([[0.3]]).double()

    def matrix(w: Tensor) -> tuple[Tensor, Tensor]:
        product, moved = learned(v)(w)
        return product + 0.1 * w, moved

    reach = torch.tensor(2.0).double()
    assert float(conjugate_gradients(matrix, b, 5, least=0.1, reach=reach)[1].abs().max()) == 0  # V is not positive
    v[0, 0] = 1e-3
    _, moved = conjugate_gradients(matrix, b, 5, least=0.1, reach=reach)
    torch.testing.assert_close(moved, b / (0.1 + 0.25 / 4) @ v[:, :1].mT, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("turn", "iterations"), [(0.1, 2), (0.5, 1), (3.0, 1)])
def test_a_matrix_that_is_not_symmetric_is_given_up(turn: float, iterations: int) -> None:
    """<p, M q> / (<p, M p> <q, M q>)^(1/2) is 2 a / (1 + a^2)^(1/2) for M = [[1, a], [-a, 1]] and b = (1, 0)."""
    m, b = torch.tensor([[1.0, turn], [-turn, 1.0]]).double(), torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double()

    def matrix(v: Tensor) -> tuple[Tensor, Tensor]:
        return v @ m.mT, v

    found, _ = conjugate_gradients(matrix, b, 2, reach=torch.tensor(1e3).double())
    torch.testing.assert_close(found, conjugate_gradients(matrix, b, iterations)[0])
    assert not torch.allclose(conjugate_gradients(matrix, b, 2)[0], conjugate_gradients(matrix, b, 1)[0])


def test_the_least_squares_solution_has_the_least_norm() -> None:
    matrix = normal(6, 3) @ normal(3, 9, seed=1)  # of rank 3
    y = normal(4, 6, seed=2)
    expected = y @ torch.linalg.pinv(matrix, rtol=1e-10).mT
    torch.testing.assert_close(pseudo_inverse(Dense(matrix), y), expected, rtol=1e-9, atol=1e-9)
