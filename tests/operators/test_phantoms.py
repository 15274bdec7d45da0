"""Ellipses: their pixels, projections and transforms agree with each other and with the operators."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefield.operators import FourierMask, Radon, filtered_back_projection, phantom
from scorefield.operators.phantom import Ellipse

TILTED = (Ellipse(2.0, 0.3, -0.2, 0.5, 0.2, 0.6), Ellipse(-0.5, -0.4, 0.3, 0.1, 0.3, -0.2))


def centres(height: int, width: int) -> tuple[Tensor, Tensor]:
    x = (torch.arange(width).double() + 0.5) * 2 / width - 1
    y = 1 - (torch.arange(height).double() + 0.5) * 2 / height
    return x, y[:, None]


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().square().sum().sqrt() / expected.abs().square().sum().sqrt())


def test_an_image_has_the_moments_of_its_ellipse() -> None:
    (ellipse,) = TILTED[:1]
    pixels = phantom.image([ellipse], 90, 120)[0]
    x, y = centres(90, 120)
    cell = 4 / (90 * 120)
    mass = float(pixels.sum()) * cell
    assert mass == pytest.approx(ellipse.value * math.pi * ellipse.a * ellipse.b, rel=1e-3)
    middle = [float((pixels * v).sum()) * cell / mass for v in (x, y)]
    assert middle == pytest.approx([ellipse.x, ellipse.y], abs=1e-3)
    u, v = x - ellipse.x, y - ellipse.y
    found = [float((pixels * w).sum()) * cell / mass for w in (u**2, v**2, u * v)]
    c, s, a2, b2 = math.cos(0.6), math.sin(0.6), 0.5**2 / 4, 0.2**2 / 4
    assert found == pytest.approx([a2 * c * c + b2 * s * s, a2 * s * s + b2 * c * c, (a2 - b2) * c * s], abs=2e-4)


def test_a_sinogram_has_the_moments_of_its_ellipse() -> None:
    (ellipse,) = TILTED[:1]
    angles = torch.tensor([0.0, 0.6, 1.9, 4.0], dtype=torch.float64)
    chords = phantom.sinogram([ellipse], angles, 4000)[0]
    w = 2 * math.sqrt(2) / 4000
    s = (torch.arange(4000).double() + 0.5) * w - math.sqrt(2)
    mass = chords.sum(1) * w
    torch.testing.assert_close(mass, torch.full_like(mass, ellipse.value * math.pi * ellipse.a * ellipse.b))
    middle = ellipse.x * angles.cos() + ellipse.y * angles.sin()
    torch.testing.assert_close((chords * s).sum(1) * w / mass, middle, rtol=0, atol=1e-6)
    spread = (chords * (s - middle[:, None]) ** 2).sum(1) * w / mass
    turned = angles - ellipse.angle
    expected = ((ellipse.a * turned.cos()) ** 2 + (ellipse.b * turned.sin()) ** 2) / 4
    torch.testing.assert_close(spread, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ellipses", [phantom.shepp_logan(), TILTED], ids=["shepp_logan", "tilted"])
def test_the_projections_of_pixels_come_to_the_closed_form(ellipses: tuple[Ellipse, ...]) -> None:
    for side, tolerance in ((32, 0.05), (128, 0.016)):
        radon = Radon(side, 20)
        expected = phantom.sinogram(ellipses, radon.angles, radon.detectors)
        found = radon.A(phantom.image(ellipses, side)[None])[0]
        assert relative(found, expected) < tolerance


@pytest.mark.parametrize("ellipses", [phantom.shepp_logan(), TILTED], ids=["shepp_logan", "tilted"])
@pytest.mark.parametrize("shape", [(1, 1), (0.75, 1)], ids=["square", "wide"])
@pytest.mark.parametrize("centred", [False, True])
def test_the_transform_of_pixels_comes_to_the_closed_form(
    ellipses: tuple[Ellipse, ...], shape: tuple[float, float], centred: bool
) -> None:
    for side, tolerance in ((32, 0.03), (128, 0.002)):
        h, w = round(shape[0] * side) + centred, side + centred  # odd where the middle matters
        drawn = phantom.k_space(ellipses, h, w, centred)
        low = torch.zeros(h, w, dtype=torch.bool)
        low[h // 2 - 3 : h // 2 + 4, w // 2 - 3 : w // 2 + 4] = True
        found = FourierMask(low, centred=centred).A(phantom.image(ellipses, h, w)[None])[0]
        assert relative(found, drawn[low]) < tolerance


def test_the_transform_of_a_real_phantom_is_symmetric_but_for_half_a_pixel() -> None:
    h, w = 9, 7  # odd, so that each frequency has its opposite
    drawn = phantom.k_space(TILTED, h, w)
    torch.testing.assert_close(drawn, drawn.flip(0, 1).conj())
    mass = sum(e.value * math.pi * e.a * e.b for e in TILTED)
    torch.testing.assert_close(drawn[4, 3], torch.tensor(math.sqrt(63) / 4 * mass + 0j, dtype=torch.complex128))


def test_the_head_phantom_has_its_tissues() -> None:
    pixels = phantom.image(phantom.shepp_logan(), 200, samples=1)[0]
    assert pixels.min() >= -1e-12 and pixels.max() <= 1 + 1e-12

    def at(x: float, y: float) -> float:
        return float(pixels[int((1 - y) * 100), int((1 + x) * 100)])

    found = [at(0, 0.9), at(0, 0.7), at(0.22, 0), at(-0.22, 0), at(0, 0.35), at(0, 0.1), at(0, -0.606), at(0.9, 0)]
    assert found == pytest.approx([1, 0.2, 0, 0, 0.3, 0.3, 0.3, 0], abs=1e-12)
    # the ventricles lean outwards at the top
    found = [at(0.29, 0.22), at(-0.29, 0.22), at(0.15, -0.22), at(0.29, -0.24), at(-0.37, -0.22)]
    assert found == pytest.approx([0, 0, 0, 0.2, 0.2], abs=1e-12)


def test_filtered_back_projection_gives_a_disc_its_value() -> None:
    # |frequency| in place of the sampled ramp takes 1.3 % off the inside here (mutant)
    radon = Radon(48, 100)
    disc = [Ellipse(1.0, 0.2, 0.1, 0.5, 0.5)]
    found = filtered_back_projection(radon, phantom.sinogram(disc, radon.angles, radon.detectors)[None])[0, 0]
    x, y = centres(48, 48)
    distance = torch.hypot(x - 0.2, y - 0.1)
    inside, outside = found[distance < 0.4], found[(distance > 0.6) & (torch.hypot(x, y) < 1)]
    assert float(inside.mean()) == pytest.approx(1, abs=2e-3) and float((inside - 1).abs().max()) < 0.03
    assert float(outside.mean()) == pytest.approx(0, abs=2e-3) and float(outside.abs().max()) < 0.06


def test_filtered_back_projection_inverts_smooth_images() -> None:
    x, y = centres(48, 48)
    smooth = torch.exp(-((x - 0.2) ** 2 + 2 * (y + 0.1) ** 2) / 0.08)[None, None]
    radon = Radon(48, 90)
    assert relative(filtered_back_projection(radon, radon.A(smooth)), smooth) < 0.02
    single = filtered_back_projection(radon, radon.A(smooth.float()))
    assert single.dtype == torch.float32 and relative(single.double(), smooth) < 0.02


def test_an_ellipse_has_size() -> None:
    with pytest.raises(ValueError, match="half axes"):
        Ellipse(1.0, 0.0, 0.0, 0.0, 1.0)
