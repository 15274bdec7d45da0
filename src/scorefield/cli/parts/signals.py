"""Ctrl-C, SIGTERM and SIGHUP as a request to stop after the current step."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from scorefield.training import distributed

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Inside the block the first signal is noted, a second one ends the process as usual.

    Signals that the process was started to ignore, by nohup or in the background, stay ignored.
    """

    _number = 0

    def __enter__(self) -> Signals:
        handlers = {number: signal.getsignal(number) for number in STOPPING}
        self._before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
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
        say(f"stopped by {signal.Signals(self._number or signal.SIGTERM).name}; {message}", sys.stderr)
        return 128 + (self._number or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        signal.signal(number, self._before[signal.Signals(number)])


def say(line: str, to: Any = None) -> None:
    """Prints a line beside a progress bar; what cannot be printed, on a terminal that is gone, stops nothing."""
    stream = to or sys.stdout
    try:
        tqdm.write(line, stream)
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # for all that is still to be printed there
        os.close(nowhere)
