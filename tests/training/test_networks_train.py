"""Every published network learns: at reduced width, 300 steps on real digits at least halve the loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scorefield import EDM, VE, VP, EDMPrecond, GaussianSDE, Preconditioned, data
from scorefield._noise import Noise
from scorefield.data import Affine
from scorefield.nn import NCSN, EDM2UNet, NCSNpp, Network, Pyramid, UNet, seeded
from scorefield.objectives import DenoisingScoreMatching
from scorefield.score import DDPMPrecond, NCSNPrecond, Precond, VEPrecond, VPPrecond

LEVELS = {"channels": (16, 32), "blocks": 1, "attention": (False, True), "dropout": 0.0}
SMALL = {"width": 16, **LEVELS}
DDPMPP = {**SMALL, "fourier_scale": None, "fir": False, "pyramid_in": Pyramid.NONE}
DDPM = {**DDPMPP, "resample_blocks": False, "rescale": False, "group_width": 1, "width": 32, "channels": (32, 32)}
SKIPS = {**SMALL, "pyramid_in": Pyramid.SKIP, "pyramid_out": Pyramid.SKIP}
REFINENET = {"channels": (16, 32, 32)}

# each network with the process and the preconditioner that it was published with
NETWORKS: dict[str, tuple[type[Network], dict, GaussianSDE, Precond]] = {
    "UNet": (UNet, {"channels": (16, 32), "blocks": 1}, EDM(), EDMPrecond(0.6)),
    "NCSN": (NCSN, {**REFINENET, "noise_levels": 10}, VE(0.02, 10), NCSNPrecond(0.02, 10, 10, unit=2.0)),
    "NCSNv2": (NCSN, REFINENET, VE(0.02, 10), NCSNPrecond(0.02, 10, 200)),
    "DDPM": (NCSNpp, DDPM, VP(), DDPMPrecond()),
    "DDPM++": (NCSNpp, DDPMPP, VP(), VPPrecond()),
    "NCSN++": (NCSNpp, SMALL, VE(0.02, 100), VEPrecond(2.0)),
    "NCSN++ of 256 px": (NCSNpp, SKIPS, VE(0.02, 100), VEPrecond(2.0)),
    "EDM's DDPM++": (NCSNpp, DDPMPP, EDM(), EDMPrecond(0.6)),
    "EDM's NCSN++": (NCSNpp, SMALL, EDM(), EDMPrecond(0.6)),
    "EDM2": (EDM2UNet, {**LEVELS, "channels": (16, 32)}, EDM(), EDMPrecond(0.6)),
}


def digits() -> Tensor:
    source = data.digits()
    x = source.rows(torch.arange(len(source))).x
    return Affine.of_levels(source.levels).forward(x, torch.full(x.shape, 0.5))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", NETWORKS)
def test_three_hundred_steps_at_least_halve_the_loss(name):
    cls, arguments, sde, precond = NETWORKS[name]
    with seeded(0):
        net = cls((1, 8, 8), **arguments)
    model, x0 = Preconditioned(net, sde, precond), digits()
    objective = DenoisingScoreMatching.edm(0.6)

    def loss() -> float:
        with torch.no_grad():
            return float(objective(model, x0[:256], noise=Noise.per_batch(1, 256)).mean())

    # as in the paper, weights of unit magnitude want larger steps
    before, optimiser = loss(), torch.optim.Adam(net.parameters(), lr=1e-2 if name == "EDM2" else 2e-3)
    for step in range(300):
        rows = torch.arange(64 * step, 64 * (step + 1)) % len(x0)
        value = objective(model, x0[rows], noise=Noise.per_batch(0, 64).at(step)).mean()
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        net.constrain()
    assert loss() < 0.5 * before


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_and_channels_last_lead_to_nearly_the_same_gradients(name):
    """Relative to the whole gradient by 5 %: a bfloat16 number has three digits."""
    cls, arguments, sde, precond = NETWORKS[name]
    with seeded(0):
        net = cls((1, 16, 16), **arguments)
        for p in net.parameters():
            if not p.detach().any():  # what starts at zero would hide what comes before it
                nn.init.normal_(p, 0.0, 0.1)
    g = torch.Generator().manual_seed(0)
    x, noise = (
        torch.randn(8, 1, 16, 16, generator=g),
        precond(sde, torch.linspace(0.1, 0.9, 8).double() * sde.T).noise.float(),
    )
    outcomes = []
    for dtype, order in (
        (torch.float32, torch.contiguous_format),
        (torch.float32, torch.channels_last),
        (torch.bfloat16, torch.channels_last),
    ):
        net.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            y = net(x.contiguous(memory_format=order), noise)
        (y.float() - x).square().mean().backward()
        outcomes.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    exact, last, rounded = outcomes
    assert float((last - exact).norm() / exact.norm()) < 1e-4
    assert float((rounded - exact).norm() / exact.norm()) < 0.05


COMPILE = """
import sys
import torch
sys.path.insert(0, {tests!r})
from test_networks_train import NETWORKS
from scorefield.nn import seeded

for name in ("UNet", "NCSN++", "DDPM", "EDM2"):
    cls, arguments, *_ = NETWORKS[name]
    with seeded(0):
        net = cls((1, 8, 8), **arguments)
        for p in net.parameters():
            p.data += 0.1 * torch.randn(p.shape)
        x, noise = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 0.7])
    compiled = torch.compile(net, fullgraph=True)  # an error at the first break of the graph
    for grads in (True, False):
        with torch.set_grad_enabled(grads):
            torch.testing.assert_close(compiled(x, noise), net(x, noise), rtol=1e-4, atol=1e-4)
    y = compiled(x, noise)
    ours = torch.autograd.grad(y.square().sum(), list(net.parameters()))
    theirs = torch.autograd.grad(net(x, noise).square().sum(), list(net.parameters()))
    largest = max(float(v.abs().max()) for v in theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * largest)
    print(name, "is one graph")
"""


@pytest.mark.slow
def test_networks_compile_without_a_break():
    # in a process of its own: the run-time checks of shapes, which conftest installs, cannot be compiled
    script = COMPILE.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.count("is one graph") == 4, done.stderr[-3000:]
