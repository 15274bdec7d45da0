"""Everything that can be measured of a trained model, in numbers and pictures."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from scorefield import grids
from scorefield._finite import Doubtful
from scorefield.data import Subset
from scorefield.data.dataset import choice
from scorefield.evaluate import findings
from scorefield.evaluate.comparison import METRICS, agreement, check_enough, compare
from scorefield.evaluate.findings import Finding
from scorefield.evaluate.ledger import Ledger
from scorefield.evaluate.work import Effort, Sets, Work
from scorefield.metrics import FeatureExtractor, extract
from scorefield.metrics.frechet import check_frechet
from scorefield.metrics.pairwise import check_finite
from scorefield.model import ScoreModel
from scorefield.model.solving import solving
from scorefield.processes import SDE, GaussianSDE
from scorefield.sampling import default, network_calls
from scorefield.solvers import DDIM, EulerMaruyama, Heun, Solver
from scorefield.training import distributed

MOST = 10_000  # samples by default
NEEDED = "as each sample needs"


@dataclass
class Evaluation(Finding):
    """What `evaluate` found.

    Attributes:
        numbers: by section, plain values that JSON can hold; equal for equal arguments.
        pictures: by name.
        seconds: that the parts took in this process.
    """

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, section: str, finding: Finding) -> None:
        """Takes a section in, if there is something in it."""
        self.pictures |= finding.pictures
        if finding.numbers:
            self.numbers[section] = finding.numbers


def evaluate(
    model: ScoreModel,
    sets: Sets,
    extractor: FeatureExtractor,
    effort: Effort,
    ledger: Ledger,
    solver: Solver | None = None,
) -> Evaluation | None:
    """Draws samples, measures them against the data, computes likelihoods, and draws pictures of it all.

    Args:
        model: trained.
        sets: data of the model's events.
        extractor: of the features in which samples are compared.
        effort: how much is computed.
        ledger: keeps the finished parts; processes that share its folder share the work.
        solver: of the samples, instead of the default one.

    Returns:
        What was found, in the first process; None in the others.
    """
    found, work = Evaluation(), Work(model, sets, extractor, effort, ledger)
    clock = [time.perf_counter()]

    def lap(name: str) -> None:
        clock.append(time.perf_counter())
        found.seconds[name] = clock[-1] - clock[-2]

    check_enough(len(sets.reference), len(sets.held_out))
    count = effort.samples or min(max(50, len(sets.held_out)), MOST)
    one = extract(extractor, sets.reference.rows(torch.arange(1)).x)
    check_frechet(len(sets.reference), count, one.values.shape[1])
    known = work.features("reference features", sets.reference)
    some = Subset(sets.held_out, choice(len(sets.held_out), count))
    held_out, unseen = work.features("held-out features", some), some.rows(torch.arange(len(some)))
    lap("features of the data")
    solver, times = solving(model.denoiser, effort.steps, solver, None, None)
    x, made = work.samples("samples", solver, list(times), count)
    check_finite(made.values)
    lap("samples")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Doubtful)  # the curve shows where solvers have too few steps
        points = {
            name: [
                (calls, work.samples(f"{name}, {calls} calls", *how, min(count, effort.curve_samples))[1])
                for calls, how in line
            ]
            for name, line in _lines(model.denoiser.sde, effort.calls).items()
        }
    lap("curve")
    tables = work.likelihoods()
    lap("likelihoods")
    if distributed.rank():
        return None

    found.add("model", findings.about_model(model, work.model_digest))
    sizes = {
        "training rows": len(sets.train),
        "reference rows": len(sets.reference),
        "held-out rows": len(some),
    }
    data = {**sets.about, **sizes}
    found.add("data", Finding(data))
    about: dict[str, Any] = {
        "name": extractor.name,
        "digest": extractor.digest,
        "features": known.values.shape[1],
        **extractor.facts,
    }
    found.add("extractor", Finding(about))
    foretold = not solver.adaptive
    sampling = {
        "samples": count,
        "seeds": f"{effort.seed}-{effort.seed + count - 1}",
        "solver": repr(solver),
        "steps": len(times) - 1 if foretold else NEEDED,
        "network calls": network_calls(model.denoiser.sde, times, solver, model.event_shape) if foretold else NEEDED,
        "conditions": "as frequent as in the training data" if work.conditions(1) else "none",
        "batch size": effort.batch_size,
    }
    found.add("sampling", Finding(sampling))
    ours, floor = (compare(known, some, effort.seed) for some in (made, held_out))
    asked, label = work.conditions(count).get("label"), unseen.cond.get("label")
    logits = [some.logits for some in (made, held_out) if some.logits is not None]
    logits = [some for some in logits if some.shape[1] == sets.train.classes]  # of the data's classes, not of others
    if asked is not None and label is not None and len(logits) == 2:
        ours["agreement"], floor["agreement"] = agreement(logits[0], asked), agreement(logits[1], label)
    both = {
        extractor.named(name): {
            "samples": ours[name]._asdict(),
            "held out": floor[name]._asdict(),
            "better": METRICS[name].better,
            "meaning": METRICS[name].meaning,
        }
        for name in METRICS
        if name in ours and name in floor
    }
    found.add("metrics", Finding(both))
    lap("metrics")
    found.add("copies", findings.copies(work, x, unseen.x))
    lap("copies")
    found.add("classes", findings.classes(model, {"reference": known, "held out": held_out, "samples": made}))
    found.add("curve", findings.curve(extractor, known, held_out, points))
    found.add("likelihood", findings.likelihoods(work, tables))
    found.add("views", findings.views(work, x))
    lap("pictures")
    return found


Way = tuple[Solver, list[float]]


def _lines(sde: SDE, calls: tuple[int, ...]) -> dict[str, list[tuple[int, Way]]]:
    """By name, solvers and times with about so many network calls, and the number that they are."""
    ways: dict[str, Callable[[int], Way]] = {"default": partial(default, sde)}
    if isinstance(sde, GaussianSDE):
        ways["DDIM"] = lambda n: (DDIM(), grids.uniform_log_snr(sde, n))
        ways["Heun"] = lambda n: (Heun(), grids.uniform_log_snr(sde, max(1, n // 2)))
        ways["Euler-Maruyama"] = lambda n: (EulerMaruyama(), grids.uniform_log_snr(sde, n))
    return {
        name: [(network_calls(sde, times, solver), (solver, times)) for solver, times in map(way, calls)]
        for name, way in ways.items()
        if calls
    }
