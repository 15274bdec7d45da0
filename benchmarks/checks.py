"""What the checks of inputs and results cost, beside a step of sampling and of training by the demo's network.

    python benchmarks/checks.py

Each check is called alone, many times, on what a step gives it. CPU time of one thread, minimum over repetitions: the
machines are shared, and the minimum is what the code costs when nobody else is there.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

import scorefield as sf
from scorefield._derivatives import followed, recording
from scorefield._finite import not_finite, require_finite
from scorefield._inputs import matching
from scorefield.data import beyond, digits
from scorefield.model.solving import _spread as spread
from scorefield.processes import as_point
from scorefield.sampling import default, integrate
from scorefield.score.protocols import in_its_precision


def least(call: Callable[[], object], repeats: int, times: int = 15) -> float:
    """Microseconds of a call."""
    found = []
    for _ in range(times):
        start = time.process_time()
        for _ in range(repeats):
            call()
        found.append((time.process_time() - start) / repeats * 1e6)
    return min(found)


def main() -> None:
    torch.set_num_threads(1)
    data, sde = digits(), sf.VP()
    with sf.nn.seeded(0):
        net = sf.nn.MLP(data.event_shape, data.classes)
    denoiser = sf.Preconditioned(net, sde, sf.EDMPrecond(0.7))
    model = sf.ScoreModel(denoiser, data.event_shape, sf.data.Affine.of_levels(data.levels), data.classes)
    print(f"torch {torch.__version__}, one thread; microseconds")
    for n in (64, 1000):
        sampling(model, n)
    training(denoiser, data)
    loading(model)


def sampling(model: sf.ScoreModel, n: int) -> None:
    """A step of 20 of the default solver, with labels, and what is looked at in it and at the end."""
    sde, net = model.denoiser.sde, model.denoiser.net
    x, label = torch.randn(n, *model.event_shape, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10
    bound = model.given(label)
    t = torch.scalar_tensor(0.5, dtype=torch.float64)
    solver, times = default(sde, 20)
    noise = sf.Noise.per_sample(range(n))
    with torch.no_grad(), sf.score.evaluating(bound):
        step = least(lambda: integrate(bound, x, times, solver, noise=noise), 1, 7) / 20
    same = torch.zeros_like(x)
    each = {
        "as_point": (least(lambda: as_point(sde, x, t), 2000), 2),
        "in_its_precision": (precision(net, x, t, {"label": label}), 1),
        "matching, followed": (least(lambda: matching(followed(lambda x: same, x), x, net), 5000), 1),
    }
    z = 0.5 * x
    whole = model.transform.inverse(z)
    ends = {
        "require_finite": least(lambda: require_finite(z, "samples", sde, model.denoiser), 200),
        "beyond": least(lambda: beyond(model.transform, whole, z), 200),
    }
    found = {name: cost * calls for name, (cost, calls) in each.items()} | {k: v / 20 for k, v in ends.items()}
    report(f"sampling, {n} samples, 20 steps", step, found)
    heun = sf.solvers.Heun()
    grid = tuple(sf.grids.uniform_log_snr(sde, 20))
    trial = least(lambda: spread.__wrapped__(heun, grid, sde), 1)
    with torch.no_grad(), sf.score.evaluating(bound):
        run = least(lambda: integrate(bound, x, list(grid), heun, noise=noise), 1, 5)
    print(f"  the trial of a named solver, once for it and its grid: {trial:.0f} beside {run:.0f} of the samples")


def precision(net: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, cond: dict[str, torch.Tensor]) -> float:
    """What it costs to find the network's precision, besides the conversions themselves."""

    def bare() -> object:
        given = {name: value.to(x.device) for name, value in cond.items()}
        return x.to(torch.float32), t.to(torch.float32).to(x.device), given

    return least(lambda: in_its_precision(net, x, t, cond), 2000) - least(bare, 2000)


def training(denoiser: sf.Denoiser, data: sf.data.ArrayDataset) -> None:
    """A step of 128 samples."""
    state = sf.TrainState(denoiser, seed=0)
    batches = sf.Batches(data, sf.data.Affine.of_levels(data.levels), 128, seed=0)
    steps = sf.train(state, batches, sf.objectives.DenoisingScoreMatching.edm(0.7), steps=10**9)
    step = least(lambda: next(steps), 10)
    batch = batches[0]
    t = torch.rand(128, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    same = torch.zeros_like(batch.x0)

    def mode() -> None:
        with recording():
            pass

    found = {
        "as_point": 2 * least(lambda: as_point(denoiser.sde, batch.x0, t), 2000),
        "in_its_precision": precision(denoiser.net, batch.x0, t, batch.cond),
        "matching, followed": least(lambda: matching(followed(lambda x: same, batch.x0), batch.x0, denoiser), 5000),
        "recording": least(mode, 2000),
    }
    report("training, 128 samples", step, found)


def loading(model: sf.ScoreModel) -> None:
    """With and without the look at the weights."""
    with tempfile.TemporaryDirectory() as folder:
        for name, net in {"the demo's MLP": None, "EDM2UNet": sf.nn.EDM2UNet}.items():
            if net is not None:
                with sf.nn.seeded(0):
                    denoiser = sf.Preconditioned(net((3, 32, 32)), sf.EDM(), sf.EDMPrecond(0.5))
                model = sf.ScoreModel(denoiser, (3, 32, 32))
            times = 5 if net else 50
            path = Path(folder) / name.replace(" ", "_")
            model.save(path)
            weights = sum(w.numel() for w in model.denoiser.parameters())
            look = least(lambda model=model: not_finite(model.denoiser.state_dict()), 3, times)
            with_it = least(lambda path=path: sf.ScoreModel.load(path), 1, times)
            with mock.patch("scorefield._files.not_finite", lambda tensors: ""):
                without = least(lambda path=path: sf.ScoreModel.load(path), 1, times)
            print(
                f"loading {name}, {weights / 1e6:.2f} million weights: {with_it / 1000:.1f} ms, without the look "
                f"{without / 1000:.1f}: {with_it / without:.3f} times; the look alone {look / 1000:.2f}"
            )


def report(what: str, step: float, found: dict[str, float]) -> None:
    """A line for a step and its checks."""
    total = sum(found.values())
    parts = ", ".join(f"{name} {cost:.1f}" for name, cost in found.items())
    print(f"{what}: a step {step:.0f}, checks {total:.1f} ({100 * total / step:.2f} %): {parts}")


if __name__ == "__main__":
    main()
