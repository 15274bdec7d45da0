"""The record of a run's losses."""

from __future__ import annotations

import csv
import io
import os
import warnings
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
        self._size: int | None = None  # of the file as it was left
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

    def rate(self, step: int) -> float | None:
        """The learning rate of a step if it was the last one noted."""
        return self._rest[-1][1] if self.steps[-1:] == [step] else None

    def save(self) -> None:
        """Appends the new rows to the file, on the disk when this returns."""
        self._fetch()
        # whole at first, without the rows of steps that a resumed run does again, and when somebody has touched it
        if self._size is None or self.path.is_symlink() or _size(self.path) != self._size:
            write_text(self.path, ",".join(COLUMNS) + "\n" + self._rows(0))
        else:
            self._append(self._rows(self._written).encode())
        self._size = _size(self.path)
        if self._board is not None:
            for k in range(self._shown, len(self.steps)):
                self._board.add_scalar("loss", self.losses[k], self.steps[k])
                self._board.add_scalar("lr", self._rest[k][1], self.steps[k])
            for step, loss in self.validation[-1:]:
                self._board.add_scalar("held-out loss", loss, step)
            self._board.flush()
        self._written = self._shown = len(self.steps)

    def load(self, up_to: int) -> None:
        """Reads the rows of an earlier part of the run, up to a step; what is lost of them is said and missing."""
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    step = int(row["step"])
                    if step > up_to or self.steps[-1:] == [up_to]:  # what follows may be cut short
                        break
                    if self.steps and step <= self.steps[-1]:
                        raise ValueError(f"step {step} follows step {self.steps[-1]}")
                    loss, rest = float(row["loss"]), (float(row["gradient_norm"]), float(row["lr"]))
                    check = float(row["validation_loss"]) if row["validation_loss"] else None
                    self.steps.append(step)
                    self.losses.append(loss)
                    self._rest.append(rest)
                    if check is not None:
                        self.validation.append((step, check))
            if self.steps[-1:] != [up_to]:
                raise ValueError(f"it ends before step {up_to}")
        except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
            warnings.warn(
                f"{self.path}: lost or damaged ({error}): the losses of steps {(self.steps or [0])[-1] + 1} to {up_to} "
                "are missing; the weights are not concerned",
                stacklevel=2,
            )
        self._shown = len(self.steps)

    def _append(self, rows: bytes) -> None:
        """Adds rows to the file, on the disk when this returns; all of them or, on a full disk, none."""
        with self.path.open("r+b", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                while rows:
                    rows = rows[file.write(rows) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise

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


def _size(path: Path) -> int:
    """Bytes of a file, -1 of none."""
    return path.stat().st_size if path.is_file() else -1


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("--tensorboard true takes tensorboard: pip install 'scorefield[tensorboard]'") from error
    return SummaryWriter(str(folder))
