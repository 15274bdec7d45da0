"""FLAC and Ogg by soundfile, with the checksums that it passes over: of Ogg it leaves damaged pages out in silence."""

from __future__ import annotations

import hashlib
import io
import zlib
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from scorefield._memory import check_unpacked
from scorefield.data.members import LARGEST

SUFFIXES = (".flac", ".ogg", ".oga", ".opus")
PAGE = 27  # bytes of a page's head in Ogg
LAST = 4  # flag of the last page
MIRROR = bytes(int(f"{k:08b}"[::-1], 2) for k in range(256))  # each byte with its bits the other way round


def read_sound(content: bytes, most: float | None = None) -> tuple[int, Float32[np.ndarray, "length channels"]]:
    """Rate in Hz, and the values in [-1, 1].

    Args:
        content: of a file.
        most: bytes that it may take when it is unpacked, by default 256 MiB.

    Raises:
        ImportError: soundfile is missing.
        Exception: of any kind; it is damaged.
    """
    try:
        import soundfile
    except ImportError as error:
        raise ImportError("reading FLAC and Ogg takes soundfile: pip install 'scorefield[audio]'") from error
    if content[:4] == b"OggS":
        _check_pages(content)
    elif content[:4] != b"fLaC":
        raise ValueError("it is neither FLAC nor Ogg")
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        count = file.frames
        check_unpacked(4 * count * file.channels, "it", LARGEST if most is None else most)
        flac = content[:4] == b"fLaC"
        values: NDArray[Any] = file.read(dtype="int32" if flac else "float32", always_2d=True)
        rate = file.samplerate
    if len(values) != count:
        raise ValueError(f"it is cut short: it holds {len(values)} values of {count}")
    if flac:
        _check_sum(content, values)
        return rate, (values / np.float64(2**31)).astype(np.float32)  # of 24 bits at most: exact
    return rate, values


def _check_sum(content: bytes, values: NDArray[np.int32]) -> None:
    """Compares the values with the MD5 that FLAC's head has of them; all zero if its writer has left it out."""
    bits = 1 + int.from_bytes(content[20:22], "big") // 16 % 32
    wanted = content[26:42]
    size = -(-bits // 8)
    whole = (values >> (32 - bits)).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :size]
    if any(wanted) and hashlib.md5(whole.tobytes(), usedforsecurity=False).digest() != wanted:
        raise ValueError("it is damaged: its values are not those of its checksum")


def _check_pages(content: bytes) -> None:
    """Refuses an Ogg file of which pages are damaged or missing."""
    place, numbers, ended = 0, dict[bytes, int](), dict[bytes, bool]()
    while place < len(content):
        head = content[place : place + PAGE]
        if head[:5] != b"OggS\0" or len(head) < PAGE:
            raise ValueError(f"it is damaged at byte {place}: no page of Ogg is there")
        size = PAGE + head[26] + sum(content[place + PAGE : place + PAGE + head[26]])
        page, stream = content[place : place + size], head[14:18]
        number = int.from_bytes(head[18:22], "little")
        if len(page) < size or _checksum(page[:22] + bytes(4) + page[26:]) != int.from_bytes(head[22:26], "little"):
            raise ValueError(f"it is damaged at byte {place}: a page is not what its checksum says")
        if number != numbers.get(stream, 0):
            raise ValueError(f"it is damaged at byte {place}: page {numbers.get(stream, 0)} is missing")
        numbers[stream], ended[stream] = number + 1, bool(head[5] & LAST)
        place += size
    if not all(ended.values()):
        raise ValueError("it is cut short: the last page is missing")


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32, which takes bits in the other order than zlib's, and begins and ends with zeros."""
    turned = zlib.crc32(page.translate(MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{turned:032b}"[::-1], 2)
