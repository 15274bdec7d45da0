"""The record of a run's losses."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import torch

from scorefield._files import write_text
from scorefield.training import StepInfo

COLUMNS = ("step", "loss", "gradient_norm", "lr", "validation_loss")


class LossLog:
    """One row a step, kept in memory and appended to a CSV file; steps with a validation have one more number.

    Args:
        path: the file.
        tensorboard: directory to write for TensorBoard as well, or None.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        self.path = path
        self._written = self._shown = 0  # rows in the file, and those that TensorBoard has
        self._board = None if tensorboard is None else _writer(tensorboard)
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.validation: list[tuple[int, float]] = []
        self._rest: list[tuple[float, float]] = []
        self._waiting: list[StepInfo] = []

    def add(self, info: StepInfo) -> None:
        """Notes a step; its numbers stay on the device until somebody asks for them."""
        self._waiting.append(info)

    def recent(self) -> float:
        """The mean loss of the last 50 steps."""
        self._fetch()
        return sum(self.losses[-50:]) / len(self.losses[-50:])

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return self._rest[-1][1]

    def save(self) -> None:
        """Appends the new rows to the file, on the disk when this returns."""
        self._fetch()
        if not self._written:  # the first time whole, without the rows of steps that a resumed run does again
            write_text(self.path, ",".join(COLUMNS) + "\n" + self._rows(0))
        else:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._rows(self._written))
                file.flush()
                os.fsync(file.fileno())
        if self._board is not None:
            for k in range(self._shown, len(self.steps)):
                self._board.add_scalar("loss", self.losses[k], self.steps[k])
                self._board.add_scalar("lr", self._rest[k][1], self.steps[k])
            for step, loss in self.validation[-1:]:
                self._board.add_scalar("held-out loss", loss, step)
            self._board.flush()
        self._written = self._shown = len(self.steps)

    def load(self, up_to: int) -> None:
        """Reads the rows of an earlier part of the run, up to a step."""
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    step = int(row["step"])
                    if step > up_to or len(self.steps) == up_to:  # what follows may be cut short
                        break
                    self.steps.append(step)
                    self.losses.append(float(row["loss"]))
                    self._rest.append((float(row["gradient_norm"]), float(row["lr"])))
                    if row["validation_loss"]:
                        self.validation.append((step, float(row["validation_loss"])))
            if self.steps != list(range(1, up_to + 1)):
                raise ValueError(f"it has not the steps 1 to {up_to}")
            self._shown = up_to
        except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
            raise ValueError(f"{self.path}: lost or damaged ({error}): put it back, or begin another run") from error

    def _rows(self, first: int) -> str:
        checks = dict(self.validation)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for step, loss, rest in zip(self.steps[first:], self.losses[first:], self._rest[first:], strict=True):
            writer.writerow((step, loss, *rest, checks.get(step, "")))
        return text.getvalue()

    def _fetch(self) -> None:
        if self._waiting:
            values = torch.stack([torch.stack((i.loss, i.gradient_norm)) for i in self._waiting])
            for info, (loss, norm) in zip(self._waiting, values.tolist(), strict=True):
                self.steps.append(info.step)
                self.losses.append(loss)
                self._rest.append((norm, info.lr))
            self._waiting.clear()


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("--tensorboard true takes tensorboard: pip install 'scorefield[tensorboard]'") from error
    return SummaryWriter(str(folder))
