"""The life of a training command: it takes a directory, trains, is checked, saved, stopped and resumed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from scorefield import plot
from scorefield._files import not_a_link
from scorefield._finite import not_finite
from scorefield.cli.parts.losses import LossLog
from scorefield.cli.parts.signals import Signals, say
from scorefield.cli.parts.sources import save_figure
from scorefield.data import ArrayDataset, Dataset, Subset
from scorefield.data.dataset import named, some_rows, unseen_classes
from scorefield.objectives import Objective
from scorefield.processes import SDE
from scorefield.training import (
    Batch,
    Batches,
    Checkpoints,
    Snapshots,
    StepInfo,
    TrainState,
    distributed,
    train,
    validation_loss,
)

CHECKPOINTS, STATE, LOSSES = "checkpoints", "state.safetensors", "loss.csv"
SNAPSHOTS, PICTURES, BOARD = "averages", "samples", "tensorboard"
FILES = ("config.json", "model.safetensors", LOSSES, "loss.png")
FOLDERS = (CHECKPOINTS, SNAPSHOTS, PICTURES, BOARD)


class Stopped(Exception):
    """A signal has arrived in the middle of a validation."""


class Stored(Protocol):
    """A model that goes into a directory."""

    def save(self, path: Path) -> None:
        """Writes it."""
        ...


@dataclass
class Run:
    """What a training command has made ready.

    Args:
        out: directory of the run.
        state: of the training.
        objective: what is minimised.
        checks: held-out batches.
        count: of held-out batches in a validation, 0 for none.
        log: of the losses.
        checkpoints: where the states go.
        fingerprint: what a resumed run must have in common with this one.
        model: what is stored, of the weights' k-th average.
        precision: of mixed arithmetic, if any.
        accumulate: number of micro-batches of a batch.
        saved: step of the last checkpoint.
        signals: what asks to stop.
    """

    out: Path
    state: TrainState[Any]
    objective: Objective[Any]
    checks: Batches
    count: int
    log: LossLog
    checkpoints: Checkpoints
    fingerprint: dict[str, Any]
    model: Callable[[int], Stored]
    precision: torch.dtype | None = None
    accumulate: int = 1
    saved: int = 0
    signals: Signals = field(default_factory=Signals)

    def resume(self, newest: Path) -> None:
        """Goes on from a checkpoint."""
        self.state.load(newest / STATE, self.fingerprint)
        self.log.load(up_to=self.state.step)
        self.saved = self.state.step
        if distributed.rank() == 0:  # the end of the earlier part may have prevented these
            self.checkpoints.tidy(self.saved)
            self._publish()

    def steps(self, batches: Batches, *, until: int, save_every: int, compiled: bool = False) -> Iterator[StepInfo]:
        """Trains up to a step, saving on the way and when a signal asks to stop; each step is yielded when saved."""
        first, snapshots = distributed.rank() == 0, Snapshots(self.out / SNAPSHOTS)
        if first and 0 < self.state.step < until:
            self._say_rate(until)
        trained = train(
            self.state,
            batches,
            self.objective,
            steps=until,
            precision=self.precision,
            accumulate=self.accumulate,
            compiled=compiled,
        )
        bar = tqdm(initial=self.state.step, total=until, unit="step", mininterval=0.5, disable=None if first else True)
        with bar, self.signals:
            for info in trained:
                self.log.add(info)
                bar.update()
                if info.step % 50 == 0:
                    bar.set_postfix(loss=f"{self.log.recent():.4g}")
                    self._check()
                stop = self.signals.arrived()
                due = info.step % save_every == 0 or info.step == until
                saves = due or stop
                if first:
                    snapshots.update(self.state, newest=saves)  # before the checkpoint: those beyond it are replaced
                if due and not stop:
                    stop = not self._validate()
                if saves:
                    if first:
                        self._save()
                    distributed.wait()
                    self.saved = info.step
                yield info
                if stop:
                    raise SystemExit(self.signals.status(f"saved at step {info.step}: go on by --resume true"))

    def held_out(self) -> Iterator[Batch]:
        """The batches that the validation looks at."""
        return (self.checks[k] for k in range(self.count))

    def _say_rate(self, until: int) -> None:
        """Says where the learning rate goes from here, if it was to end at another step so far."""
        step, rate = self.state.step, self.state.optimisation.rate
        last = self.log.rate(step)
        if last not in (None, rate(step - 1, until)):
            print(
                f"the learning rate was {last:.3g} in step {step} of a run of another length; it goes on with "
                f"{rate(step, until):.3g} and falls along the cosine that ends at step {until}"
            )

    def _check(self, *losses: float, weights: bool = False) -> None:
        """Stops a run that has come to nothing, before it is saved: by its losses, at times by its weights."""
        bad = [f"the loss is {loss}" for loss in (self.log.recent(), *losses) if not math.isfinite(loss)]
        if weights and (strange := not_finite(self.state.model.state_dict())):
            bad.append(f"of the weights {strange}")
        if bad:
            good = f"the last good checkpoint is that of step {self.saved}" if self.saved else "there is no checkpoint"
            raise ValueError(
                f"{bad[0]} by step {self.state.step}; {good}: lower --optimisation.lr, lengthen "
                "--optimisation.warmup, or look for outliers in the data"
            )

    def _validate(self) -> bool:
        """Whether no signal has come in between; all processes take their share."""
        if not self.count:
            return True

        def between() -> None:
            if self.signals.arrived():
                raise Stopped

        try:
            loss = validation_loss(
                self.state,
                self.checks,
                self.objective,
                count=self.count,
                accumulate=self.accumulate,
                precision=self.precision,
                between=between,
            )
        except Stopped:
            return False
        self._check(loss)
        self.log.validation.append((self.state.step, loss))
        return True

    def _save(self) -> None:
        """Writes everything, the checkpoint after the losses that lead to it."""
        step = self.state.step
        self._check(weights=True)
        checked = self.log.validation[-1:]
        held_out = f", held out {checked[0][1]:.4g}" if checked and checked[0][0] == step else ""
        say(f"step {step}: loss {self.log.recent():.4g}{held_out}")
        if not self.out.is_dir():
            warnings.warn(f"{self.out} was removed: it is made again, with what this run still knows", stacklevel=2)
            self.out.mkdir(parents=True)
        self.log.save()  # before the checkpoint: rows beyond it are dropped when a run is resumed
        self.checkpoints.save(step, lambda folder: self.state.save(folder / STATE, self.fingerprint))
        self._publish()

    def _publish(self) -> None:
        """Writes the models and the curve of the losses."""
        self.model(0).save(self.out)
        for k, half_life in enumerate(self.state.optimisation.half_lives[1:], start=1):
            self.model(k).save(not_a_link(self.out / f"half_life_{half_life:.12g}"))
        save_figure(plot.loss_curve(self.log.steps, self.log.losses, self.log.validation), self.out / "loss.png")


def take(out: Path, data: str, resume: bool, keep: int = 2) -> tuple[Checkpoints, Path | None]:
    """The checkpoints of a directory and the one to go on from; a directory that holds something else is refused."""
    checkpoints = Checkpoints(out / CHECKPOINTS, keep)
    newest = checkpoints.newest() if resume else None
    if newest is None and (checkpoints.all() or (out / "config.json").exists()):
        raise ValueError(
            f"--out {out}: holds a run already, "
            + ("but no checkpoint to go on from" if resume else "go on with it by --resume true")
            + ", or name another directory"
        )
    if Path(data).exists() and out.resolve().is_relative_to(Path(data).resolve()):
        raise ValueError(f"--out {out}: lies inside of the data {data}: name a directory beside them")
    return checkpoints, newest


def check_at_least(least: int, **options: int | None) -> None:
    """Refuses counts below the least, which training would find out late."""
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}; got {value}")


def in_proportion(validation: int | None, batch_size: int, steps: int) -> tuple[int, int]:
    """Number and size of the held-out batches that are looked at after each `steps` of training.

    Args:
        validation: samples wanted; by default 1024, but at most an eighth of those trained on, whose work is threefold.
        batch_size: of the training.
        steps: between two validations.
    """
    most = min(1024, max(1, steps * batch_size // 8)) if validation is None else validation
    size = max(1, min(batch_size, most))
    return math.ceil(most / size), size


def keep_near(source: ArrayDataset, place: torch.device) -> None:
    """Moves data that are small beside a GPU's memory there, so that batches need no transfer."""
    small = source.x.numel() * source.x.element_size() if isinstance(source.x, Tensor) else math.inf
    if place.type == "cuda" and small < torch.cuda.get_device_properties(place).total_memory / 4:
        source.to(place)


def unseen_by(kept: Dataset, class_names: Sequence[str], learnt: Set[int] = frozenset()) -> list[int]:
    """The classes that no row has, which are said; those that the model has learnt before are not among them."""
    absent = unseen_classes(kept)
    unseen, left = [k for k in absent if k not in learnt], [k for k in absent if k in learnt]
    for some, consequence in ((unseen, "cannot be asked for"), (left, "stays as the model knows it")):
        if some:
            warnings.warn(
                f"no sample to train on has the class {named(some, class_names)}, which {consequence}", stacklevel=2
            )
    return unseen


def say_what(data: str, kept: Subset, sde: SDE, model: nn.Module, place: torch.device) -> None:
    """Prints what is trained on what."""
    net: Any = getattr(model, "net", model)
    count = sum(p.numel() for p in nn.Module.parameters(net))
    if kept.levels is not None and Path(data).suffix in (".npy", ".npz"):
        most = int(some_rows(kept, 1_000_000).max())
        if most < kept.levels / 2:
            warnings.warn(
                f"the values of {data} end at {most}: if no others can occur, say --reading.levels {most + 1}",
                stacklevel=1,
            )
    print(
        f"{len(kept):,} of {len(kept.data):,} samples to train on; {type(sde).__name__} process, {type(net).__name__} "
        f"with {count:,} parameters, on {place}"
    )
