"""Recordings as signals."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from scorefield.data.found import counted
from scorefield.data.members import Broken, members
from scorefield.data.sound import SUFFIXES, read_sound

RECORDINGS = (".wav", *SUFFIXES)

REMEDY = "take a smaller --reading.audio.length, or fill them with silence by --reading.audio.pad true"
FULL_SCALE = 2.0  # of floating-point numbers, beyond which they are not such as integers become


@dataclass(frozen=True)
class Audio:
    """How recordings become signals.

    Args:
        length: time points of one event; each recording is cut into consecutive pieces of it. Pieces of one recording
            may fall on both sides of a split.
        labels: the outermost folders are classes, in the order of their names, if all recordings lie in folders.
        rate: in Hz, that all recordings must have; by default that of the first.
        pad: fill what is left at a recording's end, and so short ones, with silence, instead of leaving it out.
    """

    length: int = 8192
    labels: bool = True
    rate: int | None = None
    pad: bool = False

    def __post_init__(self) -> None:
        if self.length < 1 or (self.rate is not None and self.rate < 1):
            raise ValueError(
                f"the length of signals and their rate must be at least 1; got {self.length} and {self.rate}"
            )


class Signals:
    """(name, (channels, length) array) of each piece of each recording in a folder or an archive.

    Integers are scaled to [-1, 1]; floating-point numbers are as they are.

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
        self._whole, self._short = list[str](), list[str]()
        self._channels = self._points = self._beyond = 0
        self._peak = 0.0
        self._kinds = dict[str, PurePosixPath]()

    def __iter__(self) -> Iterator[tuple[PurePosixPath, NDArray[np.float32]]]:
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
            self.rate, self._channels = self.rate or rate, self._channels or len(wave)
            if (rate, len(wave)) != (self.rate, self._channels):
                raise ValueError(
                    f"{self.path}: {name} has {rate} Hz and {len(wave)} channels where {self.rate} Hz and "
                    f"{self._channels} are wanted: convert the recordings to one format"
                )
            self._look(name, wave, values.dtype)
            rest = wave.shape[1] % length
            if self.options.pad and rest:
                wave = np.pad(wave, ((0, 0), (0, length - rest)))
            else:
                self._points += rest if wave.shape[1] > length else 0
            (self._whole if wave.shape[1] >= length else self._short).append(str(name))
            for start in range(0, wave.shape[1] - length + 1, length):
                yield name, wave[:, start : start + length]
        if self._short and not self._whole:
            raise ValueError(
                f"{self.path}: {counted(len(self._short), 'recording')} shorter than the length of an event, {length}, "
                f"and no other: {REMEDY}"
            )

    def said(self, pieces: int) -> str:
        """What the recordings that have been read became, in words."""
        kinds = " and ".join(sorted(self._kinds))
        beyond = f"; {counted(self._beyond, 'recording')} beyond full scale, up to {self._peak:.4g}"
        return (
            f"{counted(pieces, 'signal')} of {self._channels} x {self.options.length} from "
            f"{counted(len(self._whole), 'recording')} at {self.rate} Hz, {kinds}{beyond if self._beyond else ''}"
        )

    @property
    def left(self) -> list[str]:
        """What was left of them, in words."""
        left = list[str]()
        if self._short:
            left.append(f"{counted(len(self._short), 'recording')} shorter than {self.options.length}: {REMEDY}")
        if self._points:
            left.append(f"{self._points / (self.rate or 1):.3g} s at the ends of recordings: --reading.audio.pad true")
        return left

    def check_classes(self, label: Mapping[str, str]) -> None:
        """Refuses a class that has recordings of which none is long enough, given the class of each by its name."""
        lost = {label[name] for name in self._short if name in label}
        if lost := sorted(lost - {label[name] for name in self._whole if name in label}):
            raise ValueError(
                f"{self.path}: all recordings of {', '.join(lost)[:200]} are shorter than the length of an event, "
                f"{self.options.length}: {REMEDY}"
            )

    def _look(self, name: PurePosixPath, wave: NDArray[np.float32], dtype: np.dtype) -> None:
        """Keeps what a recording is, of integers or of floating-point numbers beyond those that integers become."""
        self._kinds.setdefault(f"{8 * dtype.itemsize} bits" if dtype.kind != "f" else "floating point", name)
        peak = float(np.abs(wave).max())
        self._beyond, self._peak = self._beyond + (peak > 1), max(self._peak, peak)
        if self._peak > FULL_SCALE and len(self._kinds) > 1 and "floating point" in self._kinds:
            raise ValueError(
                f"{self.path}: {self._kinds['floating point']} holds floating-point numbers up to {self._peak:.4g} "
                "where others hold integers, which become numbers in [-1, 1]: convert the recordings to one format"
            )


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
