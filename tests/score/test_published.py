"""The published networks and their preconditioners: counts, noise levels, and the denoisers of ideal networks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from helpers.published import COUNTS
from torch import Tensor, nn

from scorefield import EDM, VE, VP, Cosine, SubVP, gaussian
from scorefield._noise import Noise
from scorefield.nn import NCSN, EDM2UNet, NCSNpp, seeded
from scorefield.nn.edm2_parts import UnitRows, joined, unit_silu, weighted_sum
from scorefield.nn.resampling import NEAREST, SMOOTH, Rate, Resample, ResampleConv
from scorefield.nn.time_embedding import TimeEmbedding
from scorefield.score import DDPMPrecond, NCSNPrecond, Preconditioned, Prediction, Schedule, VEPrecond, VPPrecond
from scorefield.score.preconditioned import Precond


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published(name):
    cls, arguments, count = COUNTS[name]
    with torch.device("meta"):
        net = cls((3, 32, 32), **arguments)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.usefixtures("unchecked")
def test_pyramids_are_no_words():
    with pytest.raises(ValueError, match="wanted pyramids of"):
        NCSNpp((3, 8, 8), pyramid_in="RESIDUAL")


def test_equal_variances_are_not_refused_for_their_rounding():
    for beta, steps in ((0.01, 1000), (0.02, 10), (0.003, 100)):
        sde = DDPMPrecond(beta, beta, steps).process()
        assert sde.beta_max == pytest.approx(sde.beta_min)


def test_the_steps_of_a_preconditioner_cannot_be_changed_from_outside():
    precond = DDPMPrecond(0.001, 0.03, 50)
    with torch.device("meta"):
        precond.log_snrs()
    before = precond.log_snrs().clone()
    precond.log_snrs().zero_()
    assert torch.equal(precond.log_snrs(), before)


@pytest.mark.parametrize(
    ("width", "millions"), [(128, 125), (192, 280), (256, 498), (320, 777), (384, 1119), (448, 1523)]
)
def test_parameters_of_edm2_are_as_many_millions_as_published(width, millions):
    with torch.device("meta"):
        net = EDM2UNet((4, 64, 64), 1000, [k * width for k in (1, 2, 3, 4)])
    assert round(sum(p.numel() for p in net.parameters()) / 1e6) == millions


def test_edm2_keeps_magnitudes():
    """Of features: parts that sum, join and activate keep unit variance to 6 %; of weights: 1 after `constrain`."""
    a, b = torch.randn(2, 4, 64, 32, 32, generator=torch.Generator().manual_seed(0))
    with seeded(0):
        conv, net = UnitRows(64, 256, 3), EDM2UNet((1, 8, 8), channels=(64,), blocks=1, attention=(False,))
    for made in (unit_silu(a), weighted_sum(a, b, 0.3), joined(a, b[:, :8]), conv(a)[..., 1:-1, 1:-1]):
        assert float(made.detach().square().mean()) == pytest.approx(1, abs=0.06)
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    net.gain.data.fill_(1.0)
    before = net(x, t)
    for p in net.parameters():
        p.data *= 3.0 if p.ndim else 1.0
    net.constrain()
    torch.testing.assert_close(net(x, t), before, rtol=1e-3, atol=1e-3)
    for part in net.modules():
        if isinstance(part, UnitRows):
            rows = part.weight.detach().flatten(1)
            torch.testing.assert_close(rows.square().mean(1), torch.ones(len(rows)), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EDM2UNet((3, 8)), "use UNet for signals"),
        (lambda: EDM2UNet((3, 8, 8), 0, (16,), 1, (True,), 3, whole_heads=True), "16 channels cannot .* 5 heads"),
        (lambda: NCSNpp((4,)), "use UNet for signals"),
        (lambda: NCSNpp((3, 8, 8), classes=-1), "classes=-1"),
        (lambda: NCSNpp((3, 8, 8), group_width=0), "group_width and head_channels >= 1"),
        (lambda: NCSNpp((3, 8, 8), head_channels=0), "group_width and head_channels >= 1"),
        (lambda: NCSNpp((3, 8, 8), eps=-1.0), "eps > 0"),
        (lambda: NCSNpp((3, 8, 8), frequency_shift=4), "frequency_shift 0 or 1"),
        (lambda: NCSNpp((3, 8, 8), blocks=0), "blocks=0"),
        (lambda: NCSNpp((3, 8, 8), channels=(8, 8), attention=(True,)), "attention for each"),
        (lambda: NCSNpp((3, 8, 8), width=6, channels=(6,), attention=(True,), group_width=8), "6 channels cannot"),
        (lambda: NCSNpp((3, 8, 8), width=2, channels=(4,), attention=(True,), fourier_scale=None), "at least 4"),
        (lambda: NCSN((4,)), "NCSN takes images"),
        (lambda: NCSN((3, 8, 8), classes=2), "use_labels false"),
        (lambda: NCSN((3, 8, 8), channels=(4, 4)), "at least 3 levels"),
        (lambda: NCSN((3, 8, 8), channels=(4, 4, 8)), "the last two alike"),
    ],
)
def test_impossible_networks_are_refused(build, message):
    with seeded(0), pytest.raises(ValueError, match=message):
        build()


def test_inputs_that_a_network_does_not_take_are_refused():
    with seeded(0):
        nets = NCSNpp((3, 8, 8), 0, 4, (4,), 1, (False,)), NCSN((3, 8, 8), channels=(4, 4, 4))
    noise = torch.tensor(0.1)
    for net in nets:
        with pytest.raises(ValueError, match=r"events like \(3, 8, 8\)"):
            net(torch.zeros(2, 1, 8, 8), noise)
        with pytest.raises(ValueError, match="condition"):
            net(torch.zeros(2, 3, 8, 8), noise, cond=torch.zeros(2, 1))
        with pytest.raises(ValueError, match=r"label|classes"):
            net(torch.zeros(2, 3, 8, 8), noise, label=torch.tensor(0))


def fir(x: Tensor, taps: tuple[int, ...], rate: Rate) -> Tensor:
    """By the sums of the definition: y_i = sum_k w_k x_{2i + k - p}, or the same of x with zeros in between."""
    w = torch.tensor(taps, dtype=x.dtype) / sum(taps)
    for axis in (2, 3):
        x = x.movedim(axis, -1)
        n = x.shape[-1]
        if rate is Rate.UP:
            x, n = 2 * torch.stack((x, torch.zeros_like(x)), -1).flatten(-2), 2 * n
        out = torch.zeros_like(x)
        before = len(taps) // 2 if rate is Rate.UP else len(taps) // 2 - 1
        for i in range(n):
            for k, weight in enumerate(w):
                if 0 <= i + k - before < n:
                    out[..., i] += weight * x[..., i + k - before]
        x = (out[..., ::2] if rate is Rate.DOWN else out).movedim(-1, axis)
    return x


@pytest.mark.parametrize("taps", [NEAREST, SMOOTH])
@pytest.mark.parametrize("rate", Rate)
def test_resampling_is_filtering_by_its_taps(taps, rate):
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = Resample(rate, taps).double()
    torch.testing.assert_close(layer(x), fir(x, taps, rate), rtol=1e-6, atol=1e-6)
    inside = layer(torch.ones_like(x))[..., 1:-1, 1:-1]  # constants are kept but for the borders
    torch.testing.assert_close(inside, torch.ones_like(inside))
    if taps == NEAREST:
        known = nn.functional.avg_pool2d(x, 2) if rate is Rate.DOWN else nn.functional.interpolate(x, scale_factor=2)
        torch.testing.assert_close(layer(x), known)


def test_resampling_with_a_convolution_commutes_with_the_filter_away_from_the_borders():
    """Zeros, filter, convolution are linear and shift-invariant: in either order the same."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 8, 8, generator=g, dtype=torch.float64)
    with seeded(0):
        up, down = (ResampleConv(rate, 2, 3, fir=True).double() for rate in (Rate.UP, Rate.DOWN))
    weight, bias = up.conv.weight, up.conv.bias
    other = nn.functional.conv2d(fir(x, SMOOTH, Rate.UP), weight, bias, padding=1)
    torch.testing.assert_close(up(x)[..., 2:-2, 2:-2], other[..., 2:-2, 2:-2], rtol=1e-6, atol=1e-6)
    wide = nn.functional.conv2d(x, down.conv.weight, down.conv.bias, padding=1)
    kernel = down.resample.taps.expand(3, 1, 4, 4).double()
    other = nn.functional.conv2d(wide, kernel, stride=2, padding=1, groups=3)
    torch.testing.assert_close(down(x)[..., 1:-1, 1:-1], other[..., 1:-1, 1:-1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("centred", [False, True])
def test_convolutions_of_stride_two_stand_where_they_are_told(centred):
    with seeded(0):
        layer = ResampleConv(Rate.DOWN, 1, 1, fir=False, centred=centred)
    x = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    padded = nn.functional.pad(x, (1, 0, 1, 0) if centred else (0, 1, 0, 1))
    torch.testing.assert_close(layer(x), nn.functional.conv2d(padded, layer.conv.weight, layer.conv.bias, stride=2))


def test_time_embeddings_have_the_frequencies_of_their_papers():
    with seeded(0):
        layer, random = TimeEmbedding(8, 16, None), TimeEmbedding(512, 16, 16.0)
        unshifted = TimeEmbedding(8, 16, None, shift=0).frequencies
    expected = torch.tensor([1, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3), 1e-4])
    torch.testing.assert_close(layer.frequencies, expected)
    torch.testing.assert_close(unshifted, torch.tensor([1.0, 1e-1, 1e-2, 1e-3]))
    # the mean of 256 squares of normals: a relative error of 0.43 has a probability below 1e-6
    assert abs(float(random.frequencies.square().mean()) / 16**2 - 1) < 0.43
    angles = 5.0 * expected
    hidden = nn.functional.silu(layer.inner(torch.cat((angles.sin(), angles.cos()))))
    torch.testing.assert_close(layer(torch.tensor(5.0)), nn.functional.silu(layer.outer(hidden)))
    angles = 2 * math.pi * 0.3 * random.frequencies
    hidden = nn.functional.silu(random.inner(torch.cat((angles.sin(), angles.cos()))))
    torch.testing.assert_close(
        random(torch.tensor(0.3)), nn.functional.silu(random.outer(hidden)), rtol=1e-4, atol=1e-5
    )


MEAN, VARIANCE = 0.75, 0.375
# each with a process, and what an ideal network returns of s = sigma / alpha, y = x / alpha and the denoiser d
IDEAL = {
    "VP": (VPPrecond(), VP(), lambda y, s, d: (y - d) / s),
    "sub-VP": (VPPrecond(), SubVP(), lambda y, s, d: (y - d) / s),
    "VE": (VEPrecond(2.0), VE(0.02, 100.0), lambda y, s, d: (d - y) / s),
    "VE on VP": (VEPrecond(2.0), VP(), lambda y, s, d: (d - y) / s),
    "NCSN": (NCSNPrecond(0.02, 2.0, 10, unit=2.0), VE(0.02, 2.0), lambda y, s, d: 2 * (d - y) / s**2),
    "NCSNv2": (NCSNPrecond(0.02, 2.0, 10), VE(0.02, 2.0), lambda y, s, d: (d - y) / s),
    "DDPM noise": (DDPMPrecond(), VP(), lambda y, s, d: (y - d) / s),
    "DDPM on VE": (DDPMPrecond(), VE(0.02, 100.0), lambda y, s, d: (y - d) / s),
    "DDPM velocity": (
        DDPMPrecond(prediction=Prediction.VELOCITY),
        Cosine(),
        lambda y, s, d: ((y - d) / s - s * d) / (1 + s**2).sqrt(),
    ),
    "DDPM data": (DDPMPrecond(prediction=Prediction.DATA), VP(), lambda y, s, d: d),
}


@pytest.mark.parametrize("name", IDEAL)
def test_the_ideal_network_gives_the_exact_denoiser(name):
    """Kills a wrong skip, out or inp of any preconditioner."""
    precond, sde, target = IDEAL[name]
    t = torch.tensor([sde.t_end, 0.05 * sde.T, 0.5 * sde.T, sde.T], dtype=torch.float64)
    alpha = sde.alpha(t)[:, None]
    s = sde.sigma(t)[:, None] / alpha

    class Ideal(nn.Module):
        def forward(self, x: Tensor, noise: Tensor) -> Tensor:
            y = x / precond(sde, t).inp[:, None] / alpha
            return target(y, s, (VARIANCE * y + s**2 * MEAN) / (VARIANCE + s**2))

    normals = Noise.per_sample([7])
    x = sde.perturb(
        normals.normal(torch.empty(1, 4, 5).double())[0], t, normals.normal(torch.empty(1, 4, 5).double(), 1)[0]
    )
    exact = gaussian(sde, torch.full((5,), MEAN), torch.tensor(VARIANCE))
    atol = 1e-11 * (1 + float(s.max()))
    torch.testing.assert_close(Preconditioned(Ideal(), sde, precond)(x, t), exact(x, t), rtol=1e-9, atol=atol)


def told(precond: Precond, sde, t: Tensor) -> Tensor:
    return precond(sde, t).noise


def test_networks_are_told_the_noise_as_in_training():
    t = torch.tensor([1e-3, 0.02, 0.7, 1.0], dtype=torch.float64)
    torch.testing.assert_close(told(VPPrecond(), VP(), t), 999 * t)
    ve = VE(0.02, 100.0)
    torch.testing.assert_close(told(VEPrecond(2.0), ve, t), (0.01 * 5000**t).log())
    # the authors of EDM: ln(sigma / 2)
    torch.testing.assert_close(told(VEPrecond(2.0), EDM(), 80 * t), (80 * t / 2).log())
    levels = torch.logspace(0, -2, 10, dtype=torch.float64)  # sigma_begin 1 to sigma_end 0.01, in units of [0, 1]
    times = ve.time(-2 * (2 * levels).log())
    torch.testing.assert_close(told(NCSNPrecond(0.02, 2.0, 10), ve, times), torch.arange(10).double())
    beyond = ve.time(-2 * torch.tensor([50.0, 0.0201], dtype=torch.float64).log())
    torch.testing.assert_close(told(NCSNPrecond(0.04, 2.0, 10), ve, beyond), torch.tensor([0.0, 9.0]).double())


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("steps", [100, 1000])
def test_steps_of_ddpm_are_those_of_the_product_of_their_variances(schedule, steps):
    precond = DDPMPrecond(0.00085, 0.012, steps, schedule)
    if schedule is Schedule.LINEAR:
        betas = [0.00085 + (0.012 - 0.00085) * k / (steps - 1) for k in range(steps)]
    elif schedule is Schedule.SCALED_LINEAR:
        ends = math.sqrt(0.00085), math.sqrt(0.012)
        betas = [(ends[0] + (ends[1] - ends[0]) * k / (steps - 1)) ** 2 for k in range(steps)]
    else:
        bar = [math.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(steps + 1)]
        betas = [min(1 - after / before, 0.999) for before, after in itertools.pairwise(bar)]
    a2 = torch.tensor([math.prod(1 - beta for beta in betas[: k + 1]) for k in range(steps)], dtype=torch.float64)
    torch.testing.assert_close(precond.log_snrs(), (a2 / (1 - a2)).log(), rtol=1e-8, atol=1e-8)
    sde = precond.process()
    torch.testing.assert_close(
        told(precond, sde, sde.time(precond.log_snrs())), torch.arange(steps).double(), atol=1e-6, rtol=0
    )
    assert float(sde.log_snr(torch.tensor(1.0).double())) == pytest.approx(float(precond.log_snrs()[-1]))
    assert float(sde.log_snr(torch.tensor(sde.t_end).double())) == pytest.approx(float(precond.log_snrs()[0]))
    between = precond.step(precond.log_snrs()[:2].mean()[None])
    assert float(between) == pytest.approx(0.5)
    ends = precond.step(torch.tensor([1e3, -1e3], dtype=torch.float64))
    assert ends.tolist() == [0, steps - 1]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NCSNPrecond(0.0, 1.0, 10), "sigma_min"),
        (lambda: NCSNPrecond(0.1, 1.0, 1), "at least 2 levels"),
        (lambda: DDPMPrecond(0.0), "beta_start"),
        (lambda: DDPMPrecond(steps=1), "at least 2 steps"),
        (lambda: VEPrecond(0.0), "unit"),
        (lambda: VPPrecond(0.0), "scale"),
    ],
)
def test_impossible_preconditioners_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_the_levels_of_ncsn_have_weights_of_their_own_and_others_lie_between():
    with seeded(0):
        net = NCSN((1, 8, 8), channels=(4, 4, 4), noise_levels=3)
        nn.init.normal_(net.out.weight)
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    at = [net(x, torch.tensor(level)) for level in (0.0, 1.0, 2.0, 1.25)]
    assert not torch.allclose(at[0], at[1]) and not torch.allclose(at[1], at[2])
    norm = net.norm
    torch.testing.assert_close(norm._at(torch.tensor(1.25)), 0.75 * norm.weights[1:2] + 0.25 * norm.weights[2:3])
    torch.testing.assert_close(norm._at(torch.tensor([2.0, 9.0])), norm.weights[[2, 2]])
