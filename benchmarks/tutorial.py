"""The model of Song's tutorial on Fashion-MNIST: ours beside a plain implementation, in one run.

    python benchmarks/tutorial.py [/usr/share/datasets/fashion-mnist]

An epoch of 60,000 images in batches of 32, and 64 samples by 500 Euler-Maruyama steps, each from the median of some of
its steps, taken in turns. The plain implementation is what the tutorial's reader would write: the same network of
torch's modules in their default memory format, Adam, the loss mean |sigma s + z|^2, and the loop over 500 times.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

import scorefield as sf
from scorefield.sampling import integrate
from scorefield.solvers import EulerMaruyama

SIGMA, BATCH, SAMPLES, TIMES = 25.0, 32, 64, 500
EPOCH = 60_000 // BATCH


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist"
    data = sf.data.read(path).unlabelled()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(data)} images")
    images = data.rows(torch.arange(4096)).x.float() / 255
    steps = {"plain": plain_training(images), "scorefield": our_training(data)}
    report("an epoch of training", {name: lambda s=step: next(s) for name, step in steps.items()}, 150, EPOCH)
    samplers = {"plain": plain_sampling(), "scorefield": our_sampling()}
    report(f"{SAMPLES} samples by {TIMES} steps", samplers, 3, TIMES // 20)


def report(what: str, calls: dict[str, Callable[[], object]], rounds: int, factor: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 3):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    for name, values in times.items():
        print(f"{what:28}{name:12}{statistics.median(values[3:]) * factor:8.1f} s")


def our_training(data: sf.data.ArrayDataset) -> Iterator[object]:
    with sf.nn.seeded(0):
        net = sf.nn.TutorialUNet(data.event_shape)
    model = sf.Preconditioned(net, sf.Power(SIGMA), sf.TimePrecond())
    state = sf.TrainState(model, sf.Optimisation(lr=1e-4), seed=0)
    batches = sf.Batches(data, sf.data.Affine.fitted(data), BATCH, seed=0)
    return sf.train(state, batches, sf.objectives.DenoisingScoreMatching(), steps=10**9)


def our_sampling() -> Callable[[], object]:
    with sf.nn.seeded(0):
        model = sf.Preconditioned(sf.nn.TutorialUNet((1, 28, 28)), sf.Power(SIGMA), sf.TimePrecond()).eval()
    times = sf.grids.uniform(model.sde, TIMES)[:21]
    noise = sf.Noise.per_sample(range(SAMPLES))
    x = model.sde.prior.sample(torch.empty(SAMPLES, 1, 28, 28), noise)

    @torch.no_grad()
    def twenty_steps() -> Tensor:
        return integrate(model, x, times, EulerMaruyama(), noise=noise)

    return twenty_steps


def std_of(t: Tensor) -> Tensor:
    return ((SIGMA ** (2 * t) - 1) / (2 * math.log(SIGMA))).sqrt()


class Plain(nn.Module):
    """The tutorial's network as its reader would write it."""

    def __init__(self) -> None:
        super().__init__()
        c = (32, 64, 128, 256)
        self.frequencies = nn.Parameter(30 * torch.randn(128), requires_grad=False)
        self.embed = nn.Linear(256, 256)
        self.down = nn.ModuleList([nn.Conv2d(1, c[0], 3, bias=False)])
        self.down += [nn.Conv2d(a, b, 3, stride=2, bias=False) for a, b in itertools.pairwise(c)]
        self.up = nn.ModuleList([nn.ConvTranspose2d(c[3], c[2], 3, stride=2, bias=False)])
        for a, b in ((c[2], c[1]), (c[1], c[0])):
            self.up.append(nn.ConvTranspose2d(2 * a, b, 3, stride=2, output_padding=1, bias=False))
        widths = (*c, c[2], c[1], c[0])
        self.dense = nn.ModuleList(nn.Linear(256, width) for width in widths)
        self.norms = nn.ModuleList(nn.GroupNorm(4 if k == 0 else 32, width) for k, width in enumerate(widths))
        self.out = nn.ConvTranspose2d(2 * c[0], 1, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angle = 2 * math.pi * t[:, None] * self.frequencies
        e = silu(self.embed(torch.cat((angle.sin(), angle.cos()), -1)))
        h, skips = x, []
        for k, layer in enumerate(self.down):
            h = silu(self.norms[k](layer(h) + self.dense[k](e)[:, :, None, None]))
            skips.append(h)
        h = skips.pop()
        for k, layer in enumerate(self.up, start=4):
            h = silu(self.norms[k](layer(h) + self.dense[k](e)[:, :, None, None]))
            h = torch.cat((h, skips.pop()), 1)
        return self.out(h) / std_of(t)[:, None, None, None]


def plain_training(images: Tensor) -> Iterator[object]:
    with sf.nn.seeded(0):
        net = Plain()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    while True:
        x = images[torch.randint(len(images), (BATCH,), generator=generator)]
        t = torch.rand(BATCH, generator=generator) * (1 - 1e-5) + 1e-5
        z, std = torch.randn(x.shape, generator=generator), std_of(t)[:, None, None, None]
        loss = ((net(x + std * z, t) * std + z) ** 2).sum((1, 2, 3)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss


def plain_sampling() -> Callable[[], object]:
    with sf.nn.seeded(0):
        net = Plain().eval()
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(SAMPLES, 1, 28, 28, generator=generator) * std_of(torch.ones(()))
    times = torch.linspace(1.0, 1e-3, TIMES)[:21]

    @torch.no_grad()
    def twenty_steps() -> Tensor:
        x = x0
        h = float(times[0] - times[1])
        for t in times[:-1]:
            g = SIGMA**t
            x = x + g**2 * net(x, t.expand(SAMPLES)) * h + h**0.5 * g * torch.randn(x.shape, generator=generator)
        return x

    return twenty_steps


if __name__ == "__main__":
    main()
