"""Each operator against a formula of its own, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from test_operators import COLOUR, IMAGE, normal, some
from torch.autograd import forward_ad
from torch.nn import functional

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
    Mask,
    PhaseRetrieval,
    Quantise,
    Radon,
    Stack,
    SuperResolution,
    box,
    cartesian_mask,
    cubic,
    gaussian_kernel,
    gaussian_sensing,
    motion_kernel,
)
from scorefield.operators.operator import flat
from scorefield.operators.svd import matrix_of


def test_a_mask_keeps_the_order_of_the_event() -> None:
    mask = torch.tensor([[True, False], [True, True]])
    x = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert Mask(mask, (2, 2, 2)).A(x).tolist() == [[0, 2, 3, 4, 6, 7]]
    assert Mask(mask).A_adjoint(torch.tensor([[5.0, 6.0, 7.0]])).tolist() == [[[5, 0], [6, 7]]]


def test_grey_is_the_first_coordinate_in_an_orthonormal_colour_basis() -> None:
    basis = torch.linalg.qr(torch.cat((torch.ones(3, 1, dtype=torch.float64), normal(3, 2)), 1)).Q.mT
    basis = basis * basis[0, 0].sign()
    seen = Compose(ChannelMix(basis), Mask(torch.tensor([True, False, False])[:, None, None], COLOUR))
    x = normal(2, *COLOUR)
    grey = Colorize().A(x)
    torch.testing.assert_close(seen.A(x), math.sqrt(3) * flat(grey))
    torch.testing.assert_close(grey, ChannelMix(torch.full((1, 3), 1 / 3, dtype=torch.float64)).A(x))
    assert seen.gram == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("size", [(3, 3), (4, 3), (2, 5), (4, 4)])
def test_blur_is_convolution(size: tuple[int, int]) -> None:
    kernel, x = normal(*size), normal(1, 2, 9, 7)
    for channel, circular, valid in zip(x[0], Blur(kernel).A(x)[0], Blur(kernel, circular=False).A(x)[0], strict=True):
        expected = ndimage.convolve(channel.numpy(), kernel.numpy(), mode="wrap")
        np.testing.assert_allclose(circular, expected, atol=1e-12)
        np.testing.assert_allclose(valid, signal.convolve(channel.numpy(), kernel.numpy(), "valid"), atol=1e-12)


def test_kernels_have_sum_1_and_their_moments() -> None:
    kernel = gaussian_kernel(41, 3.0)
    place = torch.arange(41.0).double() - 20
    assert float(kernel.sum()) == pytest.approx(1)
    assert float((kernel.sum(0) * place**2).sum()) == pytest.approx(9, rel=1e-6)
    for angle in (0.0, 0.4, math.pi / 2, 2.5):
        line = motion_kernel(21, angle)
        place = torch.arange(21.0).double() - 10
        x, y = place.expand(21, 21), -place[:, None].expand(21, 21)
        xx, yy, xy = (float((line * u * v).sum()) for u, v in ((x, x), (y, y), (x, y)))
        main = 0.5 * math.atan2(2 * xy, xx - yy)
        assert math.cos(2 * (main - angle)) == pytest.approx(1, abs=1e-3)  # an axis has no sense
        assert xx + yy == pytest.approx(21**2 / 12, rel=0.05)  # the second moment of a line of that length
        torch.testing.assert_close(line, line.flip(0, 1))
    assert motion_kernel(5, 0.0)[2].tolist() == pytest.approx([0.2] * 5)


def test_super_resolution_is_the_mean_of_blocks_or_the_usual_bicubic() -> None:
    x = normal(2, 3, 24, 16)
    torch.testing.assert_close(SuperResolution(4).A(x), functional.avg_pool2d(x, 4))
    usual = functional.interpolate(x, scale_factor=0.25, mode="bicubic", antialias=True)
    torch.testing.assert_close(SuperResolution(4, cubic).A(x), usual)
    torch.testing.assert_close(SuperResolution([4, 1], box).A(x), x.reshape(2, 3, 6, 4, 16).mean(3))


@pytest.mark.parametrize("shape", [(6, 8), (7, 5)])
def test_mri_samples_the_centred_transform(shape: tuple[int, int]) -> None:
    mask, x = some(*shape), normal(2, 2, *shape)
    drawn = torch.fft.fftshift(torch.fft.fft2(torch.complex(x[:, 0], x[:, 1]), norm="ortho"), dim=(1, 2))
    torch.testing.assert_close(FourierMask(mask, complex_image=True).A(x), drawn[:, mask])
    middle = torch.zeros(shape, dtype=torch.bool)
    middle[shape[0] // 2, shape[1] // 2] = True
    mean = FourierMask(middle).A(x[:, :1])[:, 0].real / math.sqrt(math.prod(shape))
    torch.testing.assert_close(mean, x[:, 0].mean((1, 2)))


@pytest.mark.parametrize("shape", [(6, 8), (7, 5), (5, 6)])
@pytest.mark.parametrize("zero_first", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_mri_counts_from_the_corner_or_the_middle_of_image_and_mask(centred, zero_first, shape) -> None:
    """By NumPy, with and without coils. Kills fftshift for ifftshift, which is the same for even sides alone."""
    mask, x, maps = some(*shape), normal(2, 2, *shape), torch.view_as_complex(normal(3, *shape, 2, seed=4))
    image = (x[:, 0] + 1j * x[:, 1]).numpy()

    def drawn(image: np.ndarray) -> Tensor:
        image = np.fft.ifftshift(image, (-2, -1)) if centred else image
        k_space = np.fft.fft2(image, norm="ortho")
        return torch.as_tensor(k_space if zero_first else np.fft.fftshift(k_space, (-2, -1)))

    one = FourierMask(mask, True, centred, zero_first)
    torch.testing.assert_close(one.A(x), drawn(image)[:, mask])
    torch.testing.assert_close(one.A(x), one.entries(drawn(image)))
    several = FourierMask(mask, True, centred, zero_first, maps)
    seen = drawn(image[:, None] * maps.numpy())
    torch.testing.assert_close(several.A(x), seen[..., mask])
    torch.testing.assert_close(several.A(x), several.entries(seen))
    real = FourierMask(mask, False, centred, zero_first, maps).A(x[:, :1])
    torch.testing.assert_close(real, drawn(x[:, :1].numpy() * maps.numpy())[..., mask])


def test_sensitivities_survive_a_change_of_dtype() -> None:
    """A module's conversion to real numbers would drop the imaginary part of complex buffers."""
    mask, x, maps = some(4, 4), normal(1, 2, 4, 4), torch.view_as_complex(normal(2, 4, 4, 2, seed=4))
    operator = FourierMask(mask, True, sensitivities=maps)
    wanted, back = operator.A(x), operator.A_adjoint(operator.A(x))
    operator.to(torch.float32)
    torch.testing.assert_close(operator.A(x.float()), wanted.to(torch.complex64))
    torch.testing.assert_close(operator.A_adjoint(wanted.to(torch.complex64)), back.float(), rtol=1e-5, atol=1e-5)


def test_cartesian_masks_hold_the_centre_and_draw_the_others_evenly() -> None:
    # 400 masks of 16 columns: 2 always, 2 drawn of the other 14, so each of these 400 / 7 = 57 times with variance 49;
    # 5.6 standard deviations for each of the 14: false alarm below 1e-6 (mutant: columns ranked by place as well)
    masks = torch.stack([cartesian_mask(3, 16, 4.0, 0.125, seed=seed) for seed in range(400)])
    assert bool((masks == masks[:, :1]).all())
    columns = masks[:, 0]
    assert bool((columns.sum(1) == 4).all()) and bool(columns[:, 7:9].all())
    others = torch.cat((columns[:, :7], columns[:, 9:]), 1).double().sum(0)
    assert float((others - 400 / 7).abs().max()) < 5.6 * math.sqrt(400 / 7 * 6 / 7)
    assert torch.equal(cartesian_mask(3, 16, 4.0, 0.125, seed=9), masks[9])


def test_a_projection_keeps_the_mass_and_looks_the_right_way() -> None:
    radon = Radon(9, torch.tensor([0.0, 0.7, math.pi / 2, 4.0]), 31)
    x = normal(2, 1, 9, 9).abs()
    mass = radon.A(x).sum(-1) * (2 * math.sqrt(2) / 31)
    torch.testing.assert_close(mass, (x.sum((2, 3)) * (2 / 9) ** 2)[..., None].expand(2, 1, 4))
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[0, 0, 0, 6] = 1  # up and a little to the right: x = 4/9, y = 8/9
    place = (torch.arange(31.0) + 0.5) * (2 * math.sqrt(2) / 31) - math.sqrt(2)
    centre = (radon.A(x)[0, 0] * place).sum(-1) / radon.A(x)[0, 0].sum(-1)
    expected = 4 / 9 * radon.angles.cos() + 8 / 9 * radon.angles.sin()
    torch.testing.assert_close(centre, expected, atol=0.01, rtol=0)


def test_a_projection_along_the_axes_is_the_sum_of_rows_and_columns() -> None:
    radon = Radon(8, torch.tensor([0.0, math.pi / 2], dtype=torch.float64))
    x = normal(1, 1, 8, 8)
    w, p = 2 * math.sqrt(2) / 12, 2 / 8
    edges = p * torch.arange(9.0).double() - 1
    cells = w * torch.arange(13.0).double() - math.sqrt(2)
    shared = (torch.minimum(cells[1:, None], edges[1:]) - torch.maximum(cells[:-1, None], edges[:-1])).clamp_min(0)
    torch.testing.assert_close(radon.A(x)[0, 0, 0], shared @ x[0, 0].sum(0) * p / w)
    torch.testing.assert_close(radon.A(x)[0, 0, 1], shared @ x[0, 0].sum(1).flip(0) * p / w)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, when it loads its rules
def test_a_projection_has_forward_derivatives() -> None:
    radon, x, v = Radon(6, 4), normal(2, 1, 6, 6), normal(2, 1, 6, 6, seed=1)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(radon.A(forward_ad.make_dual(x, v))).tangent
        torch.testing.assert_close(found, radon.A(v))


def test_gaussian_sensing_has_entries_of_variance_1_over_m() -> None:
    # 40 x 400 entries: mean and variance within 4.9 standard errors, false alarm 1e-6 each (mutant: / sqrt(d))
    matrix, n = gaussian_sensing((20, 20), 40, seed=5).matrix * math.sqrt(40), 16_000
    assert abs(float(matrix.mean())) < 4.9 / math.sqrt(n)
    assert abs(float(matrix.var()) - 1) < 4.9 * math.sqrt(2 / n)
    assert not torch.equal(matrix, gaussian_sensing((20, 20), 40, seed=6).matrix * math.sqrt(40))


def test_hadamard_rows_are_signs_and_other_sizes_spread_as_well() -> None:
    matrix = matrix_of(HadamardSensing((4, 16), 64, seed=2), (4, 16))
    torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, 1 / 8))
    torch.testing.assert_close((matrix * matrix.new_tensor(8)) @ (matrix.mT * 8), 64 * torch.eye(64).double())
    matrix = matrix_of(HadamardSensing((3, 16), 48, seed=2), (3, 16))
    assert float(matrix.abs().max()) < 1.37 / math.sqrt(48)  # |cos - sin| at multiples of a third of a turn


def test_a_composition_is_the_product_and_a_stack_the_rows_of_its_parts() -> None:
    first, second = Blur(normal(3, 3)), SuperResolution(2, cubic)
    product = matrix_of(second, IMAGE) @ matrix_of(first, IMAGE)
    torch.testing.assert_close(matrix_of(Compose(first, second), IMAGE), product)
    third = FourierMask(some(8, 8))
    rows = torch.cat([matrix_of(part, IMAGE) for part in (first, third)])
    torch.testing.assert_close(matrix_of(Stack(first, third, event_shape=IMAGE), IMAGE), rows)


def test_quantisation_rounds_and_passes_gradients_through() -> None:
    x = torch.tensor([[-0.26, 0.1, 0.3, 0.74]], requires_grad=True)
    y = Quantise(0.5, Diagonal(2.0)).A(x)
    assert y.tolist() == [[-0.5, 0.0, 0.5, 1.5]]
    (grad,) = torch.autograd.grad((y * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum(), x)
    assert grad.tolist() == [[2, 4, 6, 8]]
    assert torch.equal(Quantise(0.1).A(x), (x / 0.1).round() * 0.1)  # exactly: nothing of x is left


def test_clipping_saturates() -> None:
    x = torch.tensor([[-3.0, 0.5, 2.0]], requires_grad=True)
    y = Clip(-1, 1, Diagonal(0.5)).A(x)
    assert y.tolist() == [[-1, 0.25, 1]]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [[0, 0.5, 0.5]]  # at the limit itself it still counts


def test_phase_retrieval_cannot_tell_a_phase() -> None:
    mask = torch.ones(6, 6, dtype=torch.bool)
    x = normal(2, 2, 6, 6)
    turned = torch.view_as_real(torch.complex(x[:, 0], x[:, 1]) * np.exp(0.7j)).movedim(-1, 1)
    for amplitude in (False, True):
        operator = PhaseRetrieval(FourierMask(mask, complex_image=True), amplitude)
        wave = np.fft.fftshift(np.fft.fft2(x[:, 0] + 1j * x[:, 1], norm="ortho"), (1, 2)).reshape(2, -1)
        np.testing.assert_allclose(operator.A(x), abs(wave) ** (1 if amplitude else 2), rtol=1e-10)
        torch.testing.assert_close(operator.A(turned), operator.A(x))
        zero = torch.zeros(1, 2, 6, 6, requires_grad=True)
        assert float(torch.autograd.grad(operator.A(zero).sum(), zero)[0].abs().max()) == 0
    signs = PhaseRetrieval(Dense(normal(5, 4)))
    torch.testing.assert_close(signs.A(x.reshape(-1, 4)), signs.A(-x.reshape(-1, 4)))


def test_a_function_must_be_linear_and_treat_rows_alone() -> None:
    for function, words in (
        (lambda x: x + 1, "not linear"),
        (lambda x: x.abs(), "not linear"),
        (lambda x: x + 1e-3 * x**2, "not linear"),
        (lambda x: x - x.mean(0), "mixes the rows"),
        (lambda x: x * math.nan, "not linear"),
    ):
        with pytest.raises(ValueError, match=words):
            FromFunction(function, (4,))


def test_a_function_of_a_module_follows_its_weights() -> None:
    weight = normal(2, 1, 3, 3, dtype=torch.float32)
    operator = FromFunction(lambda x: functional.conv2d(x, weight, padding=1), (1, 5, 5))
    y = normal(2, 2, 5, 5, dtype=torch.float32)
    torch.testing.assert_close(operator.A_adjoint(y), functional.conv_transpose2d(y, weight, padding=1))


x4, y4 = torch.zeros(1, 4), torch.zeros(1, 1, 4, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Mask(torch.zeros(3, dtype=torch.bool)), "observes nothing"),
        (lambda: Mask(torch.ones(3, dtype=torch.bool), (4,)), "does not broadcast"),
        (lambda: Mask(torch.ones(1, 4, dtype=torch.bool), (4,)), "does not broadcast"),
        (lambda: Mask(torch.ones(5, dtype=torch.bool)).A(x4), r"Mask wanted a tensor of shape \(b, 5\); got \(1, 4\)"),
        (lambda: Mask(torch.ones(5, dtype=torch.bool)).A_adjoint(x4), "wanted"),
        (lambda: Diagonal(math.nan), "finite"),
        (lambda: Diagonal(torch.ones(3)).A(x4), "broadcast"),
        (lambda: Diagonal(torch.ones(1, 4, 4)).A(x4), "broadcast"),
        (lambda: ChannelMix(torch.ones(1, 3)).A(y4), "wanted"),
        (lambda: ChannelMix(torch.full((1, 3), math.inf)), "finite"),
        (lambda: Colorize(()), "one channel or more"),
        (lambda: Colorize((0.0, 0.0)), "not all 0"),
        (lambda: Colorize().A(y4), "wanted"),
        (lambda: Blur(torch.ones(())), "kernel"),
        (lambda: Blur(torch.ones(5, 5)).A(y4), "at least the kernel"),
        (lambda: Blur(torch.ones(2, 2), circular=False).A_adjoint(x4), "at least the kernel"),
        (lambda: gaussian_kernel(3, 0), "std"),
        (lambda: motion_kernel(0, 0), "size"),
        (lambda: SuperResolution(0), "at least 1"),
        (lambda: SuperResolution(3).A(y4), "multiples"),
        (lambda: SuperResolution(2).A(x4), "multiples"),
        (lambda: SuperResolution(2).A_adjoint(x4), "axes of space"),
        (lambda: FourierMask(torch.zeros(4, 4, dtype=torch.bool)), "observes something"),
        (lambda: FourierMask(torch.ones(1, 4, 4)), r"mask \(height, width\)"),
        (lambda: FourierMask(torch.ones(4, 4), sensitivities=torch.ones(4, 4)), r"the mask's \(4, 4\); got \(4, 4\)"),
        (lambda: FourierMask(torch.ones(4, 4), sensitivities=torch.ones(2, 4, 5)), r"got \(2, 4, 5\)"),
        (lambda: FourierMask(torch.ones(4, 4), sensitivities=torch.zeros(2, 4, 4)), "not all 0"),
        (lambda: Dense(torch.ones(2, 2) * 1j), "real numbers"),
        (lambda: FromFunction(lambda x: 2 * x.detach(), (4,)), "no derivative"),
        (lambda: FourierMask(torch.ones(4, 4, dtype=torch.bool), True).A(y4), "wanted"),
        (lambda: cartesian_mask(4, 4, 0.5, seed=0), "acceleration"),
        (lambda: cartesian_mask(4, 4, 2, 1.5, seed=0), "centre"),
        (lambda: Radon(0, 3), "side"),
        (lambda: Radon(4, 0), "angles"),
        (lambda: Radon(4, torch.tensor([math.nan])), "finite"),
        (lambda: Radon(5, 3).A(y4), "wanted"),
        (lambda: Radon(4, 3, 6).A_adjoint(y4), "wanted"),
        (lambda: Dense(torch.ones(2, 3), (4,)), "column"),
        (lambda: Dense(torch.ones(2, 3)).A(x4), "wanted"),
        (lambda: gaussian_sensing((4,), 0, seed=0), "at least one"),
        (lambda: HadamardSensing((4,), 5, seed=0), "from 1 to 4"),
        (lambda: Compose(), "got none"),
        (lambda: Quantise(0.0), "positive"),
        (lambda: Clip(1, 1), "low < high"),
        (lambda: SVD(Radon(80, 1), (1, 80, 80)), "too large"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        call()


@pytest.mark.usefixtures("unchecked")
def test_nonlinear_parts_are_refused_where_linear_ones_are_wanted() -> None:
    with pytest.raises(TypeError, match=r"got Clip: nonlinear ones take the operator before them"):
        Compose(Blur(torch.ones(2, 2)), Clip(-1, 1))  # type: ignore[arg-type]
