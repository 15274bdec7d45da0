"""Recordings as signals."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from scorefield.data.members import Broken, members
from scorefield.data.sound import SUFFIXES, read_sound

RECORDINGS = (".wav", *SUFFIXES)


@dataclass(frozen=True)
class Audio:
    """How recordings become signals.

    Args:
        length: time points of one event; each recording is cut into consecutive pieces of it, and what is left at its
            end is dropped. Pieces of one recording may fall on both sides of a split.
        labels: the outermost folders are classes, in the order of their names, if all recordings lie in folders.
        rate: in Hz, that all recordings must have; by default that of the first.
    """

    length: int = 8192
    labels: bool = True
    rate: int | None = None

    def __post_init__(self) -> None:
        if self.length < 1 or (self.rate is not None and self.rate < 1):
            raise ValueError(
                f"the length of signals and their rate must be at least 1; got {self.length} and {self.rate}"
            )


class Signals:
    """(name, (channels, length) array in [-1, 1]) of each piece of each recording in a folder or an archive.

    Args:
        path: of the folder or archive.
        options: how recordings become signals.
        broken: what to do with those that cannot be read.
        most: bytes of one recording; see `members`.

    Attributes:
        rate: of the recordings that have been read, in Hz.
    """

    def __init__(self, path: Path, options: Audio, broken: Broken, most: float | None = None) -> None:
        self.path, self.options, self.broken, self.most, self.rate = path, options, broken, most, options.rate

    def __iter__(self) -> Iterator[tuple[PurePosixPath, NDArray[np.float32]]]:
        channels: int | None = None
        length = self.options.length
        for name, read in members(self.path, RECORDINGS, self.most):
            try:
                rate, values = _read_wav(read()) if name.suffix.lower() == ".wav" else read_sound(read(), self.most)
                wave = _scaled(values)
            except ImportError as error:
                raise ValueError(f"{self.path}: {name}: {error}") from error
            except Exception as error:  # a decoder may raise anything on damaged bytes
                self.broken.meet(f"{self.path}: {name}", error)
                continue
            self.rate, channels = self.rate or rate, channels or len(wave)
            if (rate, len(wave)) != (self.rate, channels):
                raise ValueError(
                    f"{self.path}: {name} has {rate} Hz and {len(wave)} channels where {self.rate} Hz and {channels} "
                    "are wanted: convert the recordings to one format"
                )
            for start in range(0, wave.shape[1] - length + 1, length):
                yield name, wave[:, start : start + length]


def _read_wav(content: bytes) -> tuple[int, NDArray[np.generic]]:
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound
        warnings.filterwarnings("error", "Reached EOF prematurely", wavfile.WavFileWarning)
        return wavfile.read(io.BytesIO(content))


def _scaled(values: NDArray[np.generic]) -> NDArray[np.float32]:
    if values.size == 0:
        raise ValueError("it is empty")
    wave = values.reshape(len(values), -1).T
    if wave.dtype == np.uint8:
        return ((wave.astype(np.float32) - 128) / 128).astype(np.float32)
    if wave.dtype.kind == "i":
        return (wave.astype(np.float64) / 2.0 ** (8 * wave.dtype.itemsize - 1)).astype(np.float32)
    if not np.isfinite(wave).all():
        raise ValueError("it holds NaN or infinite values")
    return wave.astype(np.float32)
