"""Every linear operator against the dense matrix that it stands for."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorefield import Noise
from scorefield.operators import (
    SVD,
    Blur,
    ChannelMix,
    Clip,
    Colorize,
    Compose,
    Dense,
    Diagonal,
    FourierMask,
    FromFunction,
    HadamardSensing,
    Identity,
    Linear,
    Mask,
    Operator,
    Radon,
    Stack,
    SuperResolution,
    cubic,
    gaussian_kernel,
    gaussian_sensing,
    motion_kernel,
    pseudo_inverse,
)
from scorefield.operators.operator import flat, inner, unflat
from scorefield.operators.svd import matrix_of


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=dtype))[0]


def some(*shape: int, share: float = 0.5, seed: int = 1) -> Tensor:
    """A mask that is True for about this share."""
    return Noise.per_sample([seed]).uniform(torch.zeros(1, *shape, dtype=torch.float64))[0] < share


def coils(*shape: int) -> Tensor:
    """Complex sensitivities."""
    return torch.view_as_complex(normal(*shape, 2, seed=5))


class Reversed:
    """Not ours: the first half of the numbers, in reverse order. It has the three methods and nothing else."""

    def A(self, x: Tensor) -> Tensor:
        return x.flip(1)[:, : x.shape[1] // 2]

    def A_adjoint(self, y: Tensor) -> Tensor:
        return torch.cat((y, torch.zeros_like(y)), 1).flip(1)

    def A_dagger(self, y: Tensor) -> Tensor:
        return self.A_adjoint(y)


IMAGE, COLOUR = (1, 8, 8), (3, 6, 8)
CASES: dict[str, tuple[Linear, tuple[int, ...]]] = {
    "identity": (Identity(), (2, 3)),
    "mask": (Mask(some(6, 8), COLOUR), COLOUR),
    "mask of its own shape": (Mask(some(9)), (9,)),
    "mask of a number": (Mask(torch.tensor(True)), ()),
    "diagonal": (Diagonal(normal(6, 8).relu()), COLOUR),
    "diagonal of one size": (Diagonal(-3.0), (5,)),
    "channel mix": (ChannelMix(normal(4, 3)), COLOUR),
    "channel mix of rank 1": (ChannelMix(torch.ones(2, 3)), COLOUR),
    "channel mix, orthonormal": (ChannelMix(torch.linalg.qr(normal(3, 3)).Q[:2]), COLOUR),
    "colorize": (Colorize(), COLOUR),
    "colorize a signal": (Colorize((0.2, 0.7)), (2, 5)),
    "circular blur": (Blur(gaussian_kernel(5, 1.0)), COLOUR),
    "circular blur with zeros": (Blur(torch.full((2, 4), 0.125)), IMAGE),
    "circular blur with zeros but for rounding": (
        Blur(torch.tensor([1, -2 * math.cos(4 * math.pi / 9), 1], dtype=torch.float64)),
        (2, 9),
    ),
    "circular blur of signals": (Blur(normal(4)), (2, 9)),
    "circular blur of volumes": (Blur(normal(2, 3, 2)), (4, 5, 3)),
    "valid blur": (Blur(normal(3, 2) + 2, circular=False), COLOUR),
    "valid motion blur": (Blur(motion_kernel(4, 0.5), circular=False), IMAGE),
    "super-resolution": (SuperResolution(2), COLOUR),
    "super-resolution, cubic": (SuperResolution(4, cubic), IMAGE),
    "super-resolution of signals": (SuperResolution([3]), (2, 9)),
    "super-resolution, uneven": (SuperResolution([3, 2], cubic), COLOUR),
    "mri": (FourierMask(some(7, 8)), (1, 7, 8)),
    "mri, all": (FourierMask(torch.ones(6, 6, dtype=torch.bool)), (1, 6, 6)),
    "mri, complex": (FourierMask(some(8, 5), complex_image=True), (2, 8, 5)),
    "mri, centred": (FourierMask(some(7, 8), centred=True), (1, 7, 8)),
    "mri, complex, centred": (FourierMask(some(8, 5), complex_image=True, centred=True, zero_first=True), (2, 8, 5)),
    "sense": (FourierMask(some(6, 5, share=0.3), sensitivities=coils(3, 6, 5)), (1, 6, 5)),
    "sense, complex": (FourierMask(some(6, 5), True, sensitivities=coils(3, 6, 5)), (2, 6, 5)),
    "sense, centred": (FourierMask(some(5, 6), True, True, sensitivities=coils(2, 5, 6)), (2, 5, 6)),
    "sense of real maps": (FourierMask(some(4, 5), zero_first=True, sensitivities=normal(1, 4, 5)), (1, 4, 5)),
    "radon": (Radon(8, 4), IMAGE),
    "radon, more numbers than pixels": (Radon(8, 20), IMAGE),
    "radon, coarse": (Radon(6, torch.tensor([0.3, 2.0]), 4), (1, 6, 6)),
    "dense": (Dense(normal(7, 12), (3, 4)), (3, 4)),
    "dense, tall": (Dense(normal(9, 4)), (4,)),
    "gaussian sensing": (gaussian_sensing(IMAGE, 20, seed=3), IMAGE),
    "hadamard": (HadamardSensing((64,), 20, seed=1), (64,)),
    "hadamard of 45": (HadamardSensing((5, 9), 30, seed=2), (5, 9)),
    "hadamard of 48": (HadamardSensing((3, 4, 4), 48, seed=3), (3, 4, 4)),
    "compose": (Compose(Blur(gaussian_kernel(3, 0.6)), SuperResolution(2), Diagonal(2.0)), IMAGE),
    "compose with gram": (Compose(Diagonal(2.0), Colorize(), Mask(some(1, 6, 8))), COLOUR),
    "compose, complex": (Compose(FourierMask(some(8, 8), complex_image=True), Diagonal(0.5)), (2, 8, 8)),
    "stack": (Stack(Colorize((1.0,)), FourierMask(some(8, 8)), event_shape=IMAGE), IMAGE),
    "function": (FromFunction(lambda x: x[:, :, 1:] - 2 * x[:, :, :-1], COLOUR), COLOUR),
    "function, complex": (FromFunction(lambda x: torch.fft.fft(x)[:, :3], (8,)), (8,)),
    "not ours": (Reversed(), (8,)),
}
GRAMS = {
    "identity": 1,
    "mask": 1,
    "mask of its own shape": 1,
    "mask of a number": 1,
    "diagonal of one size": 9,
    "channel mix, orthonormal": 1,
    "colorize": 1 / 3,
    "colorize a signal": 0.53,
    "super-resolution": 1 / 4,
    "super-resolution of signals": 1 / 3,
    "mri, complex": 1,
    "mri, complex, centred": 1,
    "hadamard": 1,
    "hadamard of 45": 1,
    "hadamard of 48": 1,
    "compose with gram": 4 / 3,
    "compose, complex": 1 / 4,
}
every = pytest.mark.parametrize("name", CASES)


def measurement(operator: Linear, shape: tuple[int, ...], rows: int, seed: int = 7) -> Tensor:
    """Random numbers in the shape of a measurement."""
    y = operator.A(torch.zeros(rows, *shape, dtype=torch.float64))
    return unflat(normal(*flat(y).shape, seed=seed), y.shape[1:], y.is_complex())


@every
def test_the_adjoint_is_the_adjoint(name: str) -> None:
    operator, shape = CASES[name]
    u, v = normal(3, *shape), measurement(operator, shape, 3)
    left, right = inner(operator.A(u), v), inner(u, operator.A_adjoint(v))
    size = flat(u).norm(dim=1) * flat(v).norm(dim=1)
    assert bool(((left - right).abs() <= 1e-12 * size).all())


@every
def test_the_pseudo_inverse_is_that_of_the_matrix(name: str) -> None:
    operator, shape = CASES[name]
    matrix = matrix_of(operator, shape).numpy()
    y = measurement(operator, shape, 3)
    expected = flat(y) @ torch.as_tensor(np.linalg.pinv(matrix, rcond=1e-10)).mT
    found = operator.A_dagger(y)
    assert found.shape[1:] == shape
    torch.testing.assert_close(flat(found), expected, rtol=1e-8, atol=1e-8)
    x = normal(3, *shape)
    measured = operator.A(x)
    torch.testing.assert_close(operator.A(operator.A_dagger(measured)), measured, rtol=1e-9, atol=1e-9)


@every
def test_the_singular_value_decomposition_is_that_of_the_matrix(name: str) -> None:
    operator, shape = CASES[name]
    svd, matrix = SVD(operator, shape), matrix_of(operator, shape)
    expected = np.linalg.svd(matrix.numpy(), compute_uv=False)
    expected = expected[expected > 1e-10]
    torch.testing.assert_close(svd.values.sort(descending=True).values, torch.as_tensor(expected))
    x, c = normal(3, *shape), normal(3, len(expected))
    torch.testing.assert_close(svd.measured(operator.A(x)), svd.values * svd.coordinates(x))
    torch.testing.assert_close(operator.A(svd.synthesis(svd.coordinates(x))), operator.A(x))
    torch.testing.assert_close(svd.coordinates(svd.synthesis(c)), c)  # V^T V = I


@every
def test_the_gram_is_what_the_operator_says(name: str) -> None:
    operator, shape = CASES[name]
    found = getattr(operator, "gram", None)
    assert found == (pytest.approx(GRAMS[name], rel=1e-12) if name in GRAMS else None)
    if found:
        matrix = matrix_of(operator, shape)
        torch.testing.assert_close(matrix @ matrix.mT, found * torch.eye(len(matrix), dtype=torch.float64))


@every
def test_the_operator_is_linear_and_treats_each_row_by_itself(name: str) -> None:
    operator, shape = CASES[name]
    u, v = normal(3, *shape), normal(3, *shape, seed=1)
    torch.testing.assert_close(operator.A(2 * u - v), 2 * operator.A(u) - operator.A(v), rtol=1e-12, atol=1e-12)
    for function, rows in ((operator.A, u), (operator.A_adjoint, operator.A(u)), (operator.A_dagger, operator.A(u))):
        together = function(rows)
        alone = torch.cat([function(row[None]) for row in rows])
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-10)


@every
def test_float32_gives_the_same_numbers_before_and_after_the_operator_is_moved(name: str) -> None:
    operator, shape = CASES[name]
    x = normal(2, *shape)
    y = operator.A(x)
    single = y.to(torch.complex64 if y.is_complex() else torch.float32)
    moved = deepcopy(operator)
    if isinstance(moved, nn.Module):
        moved.to(torch.float32)
    for one in (operator, moved):
        torch.testing.assert_close(one.A(x.float()), single, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.A_adjoint(single), operator.A_adjoint(y).float(), rtol=1e-5, atol=1e-5)
        back = one.A(one.A_dagger(single))
        torch.testing.assert_close(back, single, rtol=1e-3, atol=1e-3)


@every
def test_gradients_are_the_adjoint_and_the_operator(name: str) -> None:
    operator, shape = CASES[name]
    x, v = normal(2, *shape), measurement(operator, shape, 2)
    x.requires_grad_()
    (found,) = torch.autograd.grad(inner(operator.A(x), v).sum(), x)
    torch.testing.assert_close(found, operator.A_adjoint(v), rtol=1e-10, atol=1e-10)
    v.requires_grad_()
    (found,) = torch.autograd.grad(inner(x.detach(), operator.A_adjoint(v)).sum(), v)
    torch.testing.assert_close(found, operator.A(x.detach()), rtol=1e-10, atol=1e-10)


@every
def test_operators_work_without_recording_gradients(name: str) -> None:
    operator, shape = CASES[name]
    x = normal(2, *shape)
    expected = operator.A_adjoint(operator.A(x))
    with torch.inference_mode():
        found = operator.A_adjoint(operator.A(x))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in CASES if "radon" not in name])  # sparse matrices have no such device
def test_tensors_follow_the_device_of_x(name: str) -> None:
    # the device that holds no numbers shows whether anything stays behind on the CPU
    operator, shape = CASES[name]
    y = operator.A(normal(2, *shape))
    there = operator.A(torch.zeros(2, *shape, dtype=torch.float64, device="meta"))
    assert (there.device.type, there.shape, there.dtype) == ("meta", y.shape, y.dtype)
    assert operator.A_adjoint(there).device.type == "meta"


def test_an_object_that_is_not_ours_joins_in() -> None:
    other, x = Reversed(), normal(2, 8)
    assert isinstance(other, Linear) and not isinstance(Clip(0, 1), Linear) and isinstance(Clip(0, 1), Operator)
    torch.testing.assert_close(Compose(other, Diagonal(2.0)).A(x), 2 * other.A(x))
    torch.testing.assert_close(Stack(other, Identity(), event_shape=(8,)).A(x), torch.cat((other.A(x), x), 1))
    torch.testing.assert_close(pseudo_inverse(other, other.A(x)), other.A_dagger(other.A(x)))


@pytest.mark.usefixtures("unchecked")
def test_an_event_shape_given_to_super_resolution_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="profile of SuperResolution is a function, box or cubic; got 4"):
        SuperResolution((3, 8, 8), 4)  # type: ignore[arg-type]
