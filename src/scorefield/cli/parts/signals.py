"""Ctrl-C and SIGTERM as a request to stop after the current step."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import torch

from scorefield.training import distributed


class Signals:
    """Inside the block the first signal is noted, a second one ends the process as usual."""

    _number = 0

    def __enter__(self) -> Signals:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def noted(self) -> bool:
        """Whether this process has had a signal."""
        return bool(self._number)

    def arrived(self) -> bool:
        """Whether any process has had a signal; all processes must ask."""
        return bool(distributed.total(torch.tensor(self._number))) if distributed.world() > 1 else bool(self._number)

    def status(self, message: str) -> int:
        """Says what happened; the exit status that the signal asks for."""
        print(f"stopped by {signal.Signals(self._number or signal.SIGTERM).name}; {message}", file=sys.stderr)
        return 128 + (self._number or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        signal.signal(number, self._before[signal.Signals(number)])
