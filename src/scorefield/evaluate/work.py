"""The parts of an evaluation that take long, each of which a ledger keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorefield._describe import describe
from scorefield._files import digest
from scorefield._finite import Diverged
from scorefield.data import Dataset
from scorefield.data.dataset import choice
from scorefield.evaluate.ledger import Ledger
from scorefield.metrics import FeatureExtractor, Features, extract
from scorefield.model import ScoreModel
from scorefield.processes import GaussianSDE
from scorefield.solvers import Solver

PART = 1024  # rows of data in a part


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    Args:
        samples: number to draw, at least 50; by default as many as there are held-out rows, at most 10,000: distances
            depend on the number.
        steps: network calls for each sample with the default solver, steps of another one.
        calls: network calls at which the curve of quality has its points; none leaves the curve out.
        curve_samples: samples at each point, at most.
        likelihoods: rows of the held-out data, and as many of the training data, whose likelihood is computed; 0 leaves
            it out.
        seed: the first of the samples' consecutive seeds, and that of all else.
        batch_size: samples in one network call.
    """

    samples: int | None = None
    steps: int = 50
    calls: tuple[int, ...] = (5, 10, 20, 50)
    curve_samples: int = 2000
    likelihoods: int = 256
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        least = {
            "samples": (50 if self.samples is None else self.samples, 50),
            "steps": (self.steps, 1),
            "calls": (min(self.calls, default=1), 1),
            "curve_samples": (self.curve_samples, 2),
            "likelihoods": (self.likelihoods, 0),
            "seed": (self.seed, 0),
            "batch_size": (self.batch_size, 1),
        }
        for name, (got, wanted) in least.items():
            if got < wanted:
                raise ValueError(f"{name} must be at least {wanted}; got {got}")


class Sets(NamedTuple):
    """The data that a model is compared with.

    Attributes:
        train: what it was trained on.
        held_out: what it has not seen, at least 6 rows.
        reference: training rows that samples and held-out rows are compared with: all, or those that the features'
            own training has not seen.
        about: plain values that say which data these are, and how they were parted.
    """

    train: Dataset
    held_out: Dataset
    reference: Dataset
    about: Mapping[str, Any]


class Work:
    """The parts that take long, each of which the ledger keeps."""

    def __init__(
        self, model: ScoreModel, sets: Sets, extractor: FeatureExtractor, effort: Effort, ledger: Ledger
    ) -> None:
        self.model, self.sets, self.extractor, self.effort, self.ledger = model, sets, extractor, effort, ledger
        self._conditions: dict[int, dict[str, Tensor]] = {}  # by their number: each is wanted for every solver
        parts = [part for part in (model.denoiser, model.transform, model.cond_transform) if part is not None]
        described = json.dumps([describe(part) for part in parts], sort_keys=True)
        self.model_digest = hashlib.sha256((described + digest(model.denoiser.state_dict())).encode()).hexdigest()[:16]

    def features(self, name: str, data: Dataset) -> Features:
        """Features of all rows."""

        def make(part: range) -> dict[str, Tensor]:
            return _columns(extract(self.extractor, data.rows(torch.tensor(part)).x, self.effort.batch_size))

        about = {"data": dict(self.sets.about), "extractor": self.extractor.label}
        return _features(self.ledger.table(name, about, len(data), PART, make))

    def samples(self, name: str, solver: Solver, times: list[float], count: int) -> tuple[Tensor, Features]:
        """Samples in the data's units, with conditions as frequent as in the training data, and their features."""
        effort, given = self.effort, self.conditions(count)
        about = {"model": self.model_digest, "extractor": self.extractor.label, "solver": repr(solver), "times": times}
        about |= {"seed": effort.seed, "conditions": digest(given)}

        def make(part: range) -> dict[str, Tensor]:
            some = slice(part.start, part.stop)
            try:
                x = self.model.sample(
                    seeds=range(effort.seed + part.start, effort.seed + part.stop),
                    solver=solver,
                    times=times,
                    batch_size=effort.batch_size,
                    label=given["label"][some] if "label" in given else None,
                    cond=given["cond"][some] if "cond" in given else None,
                ).cpu()
            except Diverged:
                x = torch.full((len(part), *self.model.event_shape), torch.nan)  # as real numbers would be
            return {"x": x, **_columns(extract(self.extractor, x, effort.batch_size))}

        table = self.ledger.table(name, about, count, effort.batch_size, make)
        return table.pop("x"), _features(table)

    def conditions(self, count: int) -> dict[str, Tensor]:
        """Those of random training rows."""
        if count not in self._conditions:
            data, generator = self.sets.train, torch.Generator().manual_seed(self.effort.seed)
            cond = data.rows(torch.randint(len(data), (count,), generator=generator)).cond
            kept = {name: values.cpu() for name, values in cond.items() if name != "label" or self.model.classes}
            self._conditions[count] = kept
        return self._conditions[count]

    def likelihoods(self) -> dict[str, dict[str, Tensor]]:
        """Nats, and bits/dim of integers, of some rows of both sets, given their conditions."""
        if not self.effort.likelihoods or not isinstance(self.model.denoiser.sde, GaussianSDE):
            return {}
        return {
            name: self._likelihoods(name, data)
            for name, data in (("held out", self.sets.held_out), ("training data", self.sets.train))
        }

    def _likelihoods(self, name: str, data: Dataset) -> dict[str, Tensor]:
        index = choice(len(data), self.effort.likelihoods)
        count = len(index)

        def finite(part: Tensor) -> dict[str, Tensor]:
            rows = data.rows(index[part])
            result = self.model.log_prob(
                rows.x,
                label=rows.cond.get("label") if self.model.classes else None,
                seeds=self.effort.seed + part,
                batch_size=self.effort.batch_size,
                cond=rows.cond.get("cond"),
            )
            columns = {"nats": result.nats, "calls": result.nfe.to(result.nats)}
            if result.solver_error is not None:
                columns["solver error"] = result.solver_error
            return columns | ({"bits/dim": result.bits_per_dim} if result.discrete else {})

        def make(part: range) -> dict[str, Tensor]:
            try:
                return finite(torch.tensor(part))
            except Diverged as error:  # the other rows have the same values without these
                good = [k for k in range(len(part)) if k not in error.rows]
                values = finite(torch.tensor(part)[good]) if good else {}
                names = (
                    "nats",
                    "calls",
                    "solver error",
                    *(() if self.model.transform.levels is None else ("bits/dim",)),
                )
                table = {name: torch.full((len(part),), torch.nan, dtype=torch.float64) for name in names}
                for name, column in values.items():
                    table[name][good] = column.double().cpu()
                return table

        about = {"model": self.model_digest, "data": dict(self.sets.about), "seed": self.effort.seed}
        about["extractor"] = self.extractor.label  # rows that it was fitted on are left out
        return self.ledger.table(f"likelihoods {name}", about, count, self.effort.batch_size, make)


def _columns(features: Features) -> dict[str, Tensor]:
    return {name: values for name, values in features._asdict().items() if values is not None}


def _features(columns: Mapping[str, Tensor]) -> Features:
    return Features(columns["values"], columns.get("logits"))
