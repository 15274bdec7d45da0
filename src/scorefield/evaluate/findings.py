"""What is made of the work: numbers and pictures, part by part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL.Image import Image
from torch import Tensor

from scorefield import plot
from scorefield._describe import describe
from scorefield.data.dataset import choice, some_rows
from scorefield.evaluate.paths import paths
from scorefield.evaluate.work import Work
from scorefield.metrics import (
    FeatureExtractor,
    Features,
    FeatureStats,
    class_shares,
    frechet_distance,
    memorisation,
    nearest,
)
from scorefield.model import ScoreModel

COMPARED = 10_000  # samples whose nearest training data are looked for
NUMBERS = 500_000_000  # of training data in memory for that, 4 GB
SHOWN, POINTS = 64, 2000  # pictures, and points of the plane, in a picture
NEIGHBOURS = 5


@dataclass
class Finding:
    """One section of a report.

    Attributes:
        numbers: by name, plain values that JSON can hold.
        pictures: by name.
    """

    numbers: dict[str, Any] = field(default_factory=dict[str, Any])
    pictures: dict[str, Figure | Image] = field(default_factory=dict[str, Figure | Image])


def about_model(model: ScoreModel, digest: str) -> Finding:
    """What the model is."""
    net = model.denoiser
    described = describe(net).get("net", {})
    short = {name: value for name, value in model.about.items() if not isinstance(value, list | dict)}
    return Finding(
        {
            "digest": digest,
            "network": str(described.get("class", type(net).__name__)),
            "parameters": sum(p.numel() for p in net.parameters()),
            "process": repr(net.sde),
            "event shape": list(model.event_shape),
            "classes": model.classes,
            **short,
        }
    )


def copies(work: Work, x: Tensor, held_out: Tensor) -> Finding:
    """Nearest training samples, by the numbers themselves: whether samples are copies, and a picture of them."""
    data = work.sets.train
    train = some_rows(data, NUMBERS).cpu()
    found = Finding(memorisation(x[:COMPARED], train, held_out[choice(len(held_out), COMPARED)].cpu())._asdict())
    found.numbers["training rows"] = len(train)
    if plot.is_image(x.shape[1:]):
        first = x[:8]
        near = train[nearest(first, train, min(NEIGHBOURS, len(train))).place]
        lines = torch.cat((first[:, None], near), 1).flatten(0, 1)
        found.pictures["neighbours"] = plot.image_grid(lines, data.levels, columns=1 + near.shape[1])
    return found


def classes(model: ScoreModel, sets: Mapping[str, Features]) -> Finding:
    """Shares of the likeliest classes, where the features come with logits."""
    shares = {name: class_shares(some.logits) for name, some in sets.items() if some.logits is not None}
    if not shares:
        return Finding()
    number = len(next(iter(shares.values())))
    names = model.class_names if len(model.class_names) == number else [str(k) for k in range(number)]
    found = Finding({"names": list(names), **{name: values.tolist() for name, values in shares.items()}})
    if number <= 30:
        found.pictures["classes"] = plot.bars(shares, names, "share of likeliest class")
    return found


def curve(
    extractor: FeatureExtractor,
    known: Features,
    held_out: Features,
    points: Mapping[str, list[tuple[int, Features]]],
) -> Finding:
    """Frechet distance over network calls, a line for each solver, beside that of held-out rows."""
    if not points:
        return Finding()
    reference, metric = FeatureStats.of(known), extractor.named("FD")
    values: dict[str, list[tuple[int, float]]] = {}
    for name, line in points.items():
        distances = [(calls, _distance(reference, some)) for calls, some in line]
        values[name] = [(calls, distance) for calls, distance in distances if math.isfinite(distance)]
    size = min(len(line[0][1].values) for line in points.values())
    floor = held_out.values[choice(len(held_out.values), size)]
    least = frechet_distance(reference, FeatureStats.of(floor))
    calls = sorted({call for line in values.values() for call, _ in line})
    if not calls:  # every solver has diverged
        return Finding()
    lines = {name: ([c for c, _ in line], [d for _, d in line]) for name, line in values.items() if line}
    lines[f"{len(floor)} held-out rows"] = ([calls[0], calls[-1]], [least, least])
    numbers = {"metric": metric, "samples": size, "held out": least, "held-out rows": len(floor), "solvers": values}
    ylabel = f"{metric} of {size} samples".replace("$", r"\$")  # which would begin a formula
    return Finding(numbers, {"curve": plot.error_curves(lines, ylabel=ylabel)})


def likelihoods(work: Work, tables: Mapping[str, Mapping[str, Tensor]]) -> Finding:
    """Means, their standard errors and what the ODE solver may add to them, and histograms."""
    if not tables:
        return Finding()
    unit = "nats" if work.model.transform.levels is None else "bits/dim"
    nats = 1.0 if unit == "nats" else math.prod(work.model.event_shape) * math.log(2)  # in that unit
    found = Finding({"unit": unit, "given": "their conditions" if work.conditions(1) else "nothing"})
    for name, table in tables.items():
        values = table[unit].double()
        found.numbers[name] = {
            "mean": float(values.mean()),
            "standard error": float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None,
            "solver error": float(table["solver error"].mean()) / nats,
            "rows": len(values),
            "network calls": float(table["calls"].mean()),
        }
    finite = {name: table[unit][table[unit].isfinite()] for name, table in tables.items()}
    if all(map(len, finite.values())):
        found.pictures["likelihood"] = plot.histograms(finite, unit)
    return found


def views(work: Work, x: Tensor) -> Finding:
    """Samples beside data, and what they were on their way."""
    data, model, found = work.sets.train, work.model, Finding()
    rows = data.rows(choice(len(data), SHOWN)).x
    if plot.is_image(x.shape[1:]):
        found.pictures["samples"] = plot.image_grid(x[:SHOWN], data.levels)
        found.pictures["training data"] = plot.image_grid(rows, data.levels)
    elif x.shape[1:] == (2,):
        found.pictures["samples"] = plot.scatter(x[:POINTS])
        found.pictures["training data"] = plot.scatter(data.rows(choice(len(data), POINTS)).x)
    start = rows[:16]
    walked = paths(model, start, work.conditions(len(start)))
    found.pictures["trajectories"] = plot.trajectories(walked.of_one_number(), "number in the middle of a sample")
    if plot.is_image(x.shape[1:]):
        stages = walked.stages(10)
        found.pictures["stages"] = plot.image_grid(stages.flatten(0, 1).clamp(-1, 1), columns=stages.shape[1])
    return found


def _distance(reference: FeatureStats, some: Features) -> float:
    """NaN where a solver with too few steps has diverged."""
    if not bool(torch.isfinite(some.values).all()):
        return math.nan
    return frechet_distance(reference, FeatureStats.of(some))
