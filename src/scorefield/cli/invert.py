"""`scorefield invert`."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from scorefield import plot
from scorefield._files import write_file, write_text
from scorefield.cli.parts.measuring import Measuring
from scorefield.cli.parts.sources import (
    directory,
    load_conditions,
    locked,
    parse_device,
    parse_label,
)
from scorefield.cli.parts.values import measurement
from scorefield.cli.parts.writing import save_figure, save_picture
from scorefield.data import Affine
from scorefield.guidance import GuidedSolver, Measurement, MomentMatching, PosteriorDenoiser
from scorefield.model import Measured, ScoreModel
from scorefield.operators import Gaussian, Linear, LinearOperator, Mask, MeasurementNoise, Noiseless, Operator
from scorefield.operators.operator import flat
from scorefield.posterior import PosteriorSampler, TwistedSMC
from scorefield.posterior.particles import ParticleSampler
from scorefield.posterior.sampler import OuterLoop
from scorefield.processes import Knot
from scorefield.sampling import sample, stochastic
from scorefield.score import Denoiser
from scorefield.solvers import Solver, Step

FILES = ("samples.npz", "samples.png", "mean.png", "std.png", "figure.png", "report.json")
Guide = Callable[[Denoiser, Operator, Tensor, MeasurementNoise], PosteriorDenoiser]
Loop = Callable[[Denoiser, Operator, Tensor, MeasurementNoise], OuterLoop]
Cloud = Callable[[Denoiser, Operator, Tensor, MeasurementNoise], TwistedSMC]
Steps = Callable[[Linear, Tensor, MeasurementNoise], GuidedSolver]


def invert(
    run: Path,
    operator: Measuring | LinearOperator,
    y: Path,
    out: Path = Path("inverted"),
    sigma: float | None = None,
    method: Guide | Steps | Loop | Cloud = MomentMatching,
    samples: int = 16,
    seed: int = 0,
    steps: int | None = None,
    solver: Solver | None = None,
    label: str = "",
    cond: str = "",
    batch_size: int = 16,
    device: str = "auto",
    types: Sequence[type] = (),
) -> None:
    """Draws what a measurement may have been made of: inpainting, deblurring, super-resolution, MRI, tomography.

    Args:
        run: directory of a trained model.
        operator: what was measured: Identity, Mask, Colorize, Blur, SuperResolution, FourierMask, Radon or
            CompressedSensing, or your own LinearOperator by its import path.
        y: what came out: a picture, or an array (.npy) of the measurement's shape, in the data's units. For a Mask or
            FourierMask the whole of it will do, of which what is not known does not matter; for a Mask or Identity NaN
            is unknown. A picture of the data's own pixels is brought to size and colour as those of the training were.
        out: folder for samples.npz with the samples `x`, in the data's values, and their `mean` and standard deviation
            `std` before rounding, for pictures of them and a figure, and for report.json.
        sigma: standard deviation of y's noise in the data's units; for pictures and other integers as a part of half
            their range, as if it were [-1, 1]. 0 takes y for exact; by default so, but for integers, which are rounded.
        method: a class of scorefield.guidance or scorefield.posterior: MomentMatching, PiGDM, DPS, DiffPIR, DDNM,
            DDRM, DDNMPlus, ScoreALD, Replacement, RePaint, TwistedSMC, SplitGibbs, DAPS or REDdiff.
        samples: how many to draw.
        seed: of the first; the others follow.
        steps: of the solver, by default 100, for methods that have no loop of their own.
        solver: for guided denoisers; by default the reverse SDE by exponential Adams of order 2.
        label: class of the samples, for a model of classes.
        cond: conditions in the units of the training data: a .npy file, a row for each sample or one for all, or the
            numbers of one row, such as 280,1.
        batch_size: samples in one network call.
        device: auto, cpu, cuda, cuda:1, ...
        types: your own classes that the model is made of, by their import paths.
    """
    if samples < 1 or (steps is not None and steps < 1) or not 0 <= (sigma or 0.0) < math.inf:
        raise ValueError(
            f"wanted --samples and --steps of at least 1 and --sigma of at least 0; got {samples}, {steps} and {sigma}"
        )
    if (out / "config.json").exists():
        raise ValueError(f"--out {out}: holds a model, whose samples would be overwritten: name another folder")
    way, made = _class_of(method), cast(Any, method)
    if steps is not None and issubclass(way, PosteriorSampler):
        raise ValueError(f"--steps: {way.__name__} has a loop of its own, whose options are --method.steps and others")
    if solver is not None and not issubclass(way, PosteriorDenoiser):
        raise ValueError(f"--solver: {way.__name__} takes its own steps; leave it out")
    model = ScoreModel.load(run, types=types, device=parse_device(device))
    rows = load_conditions(cond, samples, model)
    denoiser, transform = model.given(parse_label(model, label) if label else None, cond=rows), model.transform
    if not (isinstance(denoiser, Denoiser) and isinstance(transform, Affine)):
        raise ValueError(
            "inverse problems need a denoiser and an affine transform of the data; got "
            f"{type(denoiser).__name__} and {type(transform).__name__}"
        )
    sde, seeds, steps = denoiser.sde, range(seed, seed + samples), steps or 100
    measure = operator.build(model.event_shape) if isinstance(operator, Measuring) else operator
    measure, values = measurement(y, measure, model)
    if isinstance(measure, Mask):
        print(f"{len(measure.observed)} of {math.prod(model.event_shape)} numbers are known")
    known = model.measured(measure, values, _noise(sigma, transform.levels))
    sizes: dict[str, float] = {}

    def watch(k: int, knot: Knot, step: Step) -> None:
        del k, knot
        sizes.update(step.info or {})

    with directory(out, FILES), locked(out):
        common: dict[str, Any] = {"seeds": seeds, "batch_size": batch_size, "progress": True}
        if issubclass(way, ParticleSampler):
            z = made(denoiser, *known).sample(model.event_shape, callback=watch, **common)
        elif issubclass(way, PosteriorSampler):
            z = made(denoiser, *known).sample(model.event_shape, **common)
        else:
            usual, times = stochastic(sde, steps, known.noise.least_std)
            if issubclass(way, GuidedSolver):
                guided, using = denoiser, made(*known)
            else:
                guided, using = made(denoiser, *known), solver or usual
            times = [sde.T, sde.t_end, 0.0] if using.adaptive else times
            z = sample(guided, model.event_shape, times, using, **common)
        left = float(flat(Measurement(*known).residual(z)).square().mean(1).sqrt().mean())
        std = math.sqrt(float(torch.as_tensor(known.noise.variance(known.y)).mean()))
        beyond = _beyond(z, transform)
        report = {"method": way.__name__, "label": way.label.value, "residual": left, "noise": std}
        report |= {"beyond": float(beyond.mean()), **sizes}
        _write(model, transform, known, z, out)
        write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    print(
        f"wrote {samples} samples ({way.__name__}: {way.label.value}) to {out}; in the model's space the residual is "
        f"{left:.4g} and the noise {std:.4g}, root mean squares"
    )
    for problem in _problems(left, std, known.y, beyond, transform.levels):
        warnings.warn(problem, stacklevel=2)


def _class_of(method: Any) -> type[PosteriorDenoiser | PosteriorSampler | GuidedSolver]:
    """The class itself, or that of the options with which the parser has bound it."""
    return method if isinstance(method, type) else next(part for part in method.args if isinstance(part, type))


def _noise(sigma: float | None, levels: int | None) -> MeasurementNoise:
    """In the data's units. The rounding of integers has the variance 1/12."""
    if levels is None:
        return Gaussian(sigma) if sigma else Noiseless()
    if sigma is not None and sigma > 1:
        raise ValueError(
            f"--sigma {sigma:g}: of integers from 0 to {levels - 1} it is a part of half their range; wanted at most "
            f"1: {sigma:g} levels are {sigma / (levels / 2):.4g}"
        )
    std = math.sqrt(1 / 12) if sigma is None else sigma * levels / 2
    return Gaussian(std) if std else Noiseless()


def _beyond(z: Tensor, transform: Affine) -> Tensor:
    """Share of a sample's numbers, (n,), that are a twentieth of the levels' range beyond it, or 10 without levels."""
    wide = z.double().cpu()
    if transform.levels is None:
        return (~(wide.abs() <= 10)).double().flatten(1).mean(1)
    shift, scale = transform.line(wide)
    away = wide * scale + shift - 0.5 * (transform.levels - 1)
    return (~(away.abs() <= 0.55 * transform.levels)).double().flatten(1).mean(1)


def _problems(residual: float, std: float, y: Tensor, beyond: Tensor, levels: int | None) -> Iterator[str]:
    """What no samples of the posterior do."""
    limit = 3 * std or 0.05 * float(y.abs().square().mean().sqrt())
    if not residual <= limit:
        times = f"{residual / std:.3g} times the noise" if std else f"{residual:.3g} where there is no noise"
        yield (
            f"the residual is {times}: the samples do not agree with the measurement; take more steps, another "
            "--method, or a --sigma that has the errors of operator and model in it"
        )
    if wild := int((beyond > 0.01).sum()):
        bounds = f"from 0 to {levels - 1}" if levels else "within 10 standard deviations"
        yield (
            f"{wild} of {len(beyond)} samples leave the range of the data, {bounds}: the method has diverged, or "
            "the model is poor; take more steps, another --method or a larger --sigma"
        )


def _write(model: ScoreModel, transform: Affine, known: Measured, z: Tensor, out: Path) -> None:
    """Samples, mean and standard deviation as arrays and, where they are pictures, as such."""
    wide = z.cpu().double()
    shift, scale = transform.line(wide)
    wide = wide * scale + shift
    mean, std = wide.mean(0), wide.std(0, correction=min(1, len(wide) - 1))
    x = transform.inverse(z.cpu())
    write_file(out / "samples.npz", partial(np.savez, x=x.numpy(), mean=mean.numpy(), std=std.numpy()))
    if not plot.is_image(model.event_shape):
        return
    levels = transform.levels
    save_picture(plot.image_grid(x, levels), out / "samples.png")
    save_picture(plot.image_grid(mean[None], levels, side=1, gap=0), out / "mean.png")
    save_picture(plot.image_grid(std[None], side=1, gap=0), out / "std.png")
    shown = {}
    if isinstance(known.operator, Linear):
        nothing = torch.zeros_like(z[:1])
        linear = known.operator.A_adjoint(Measurement(*known).ridge(nothing, 1.0)[1])
        shown["linear estimate"] = linear[0].cpu().double() * scale + shift
    shown |= {"mean": mean, "standard deviation": std, **{f"sample {k + 1}": one for k, one in enumerate(wide[:4])}}
    low, high = (0, levels - 1) if levels else (float(mean.min()), float(mean.max()))
    save_figure(plot.panels({"": shown}, low, high, spread="standard deviation"), out / "figure.png")
