"""Damaged files of every format: refused in one line that names the file."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import pytest
from helpers.formats import SOUND, every, waves

from scorefield.data import read

FLIPPED = bytes(255 - byte for byte in range(256))


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "text")
    return buffer.getvalue()


def damages(content: bytes) -> dict[str, bytes]:
    """20 of a file: cut, with bits flipped, of another kind."""
    kinds = {
        "empty": b"",
        "text": b"x,y\n1,2\n" * 200,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
        "gzip": gzip.compress(bytes(5000)),
        "zip": zipped(),
        "json": b'{"x": [1, 2, 3]}' * 50,
        "zeros": bytes(3000),
        "noise": np.random.default_rng(0).integers(0, 256, 3000).astype("u1").tobytes(),
    }
    cuts = {f"cut at {k}/9": content[: len(content) * k // 9] for k in range(1, 9)}
    flips = {
        "its first bytes left out": content[600:],
        "its first bytes flipped": content[:600].translate(FLIPPED) + content[600:],
        "its first half flipped": content[: len(content) // 2].translate(FLIPPED) + content[len(content) // 2 :],
        "doubled from the middle": content[len(content) // 2 :] * 2,
    }
    return {**kinds, **cuts, **flips}


@pytest.mark.parametrize("name", SOUND)
def test_damaged_files_are_refused_by_name(name, tmp_path):
    path = SOUND[name](tmp_path / name)
    content = path.read_bytes()
    every(read(path))
    tried = damages(content)
    assert len(tried) == 20
    for kind, damaged in tried.items():
        if path.suffix == ".cfl" and kind.endswith(("flipped", "middle")):
            continue  # numbers without a head, of which any are sound
        path.write_bytes(damaged)
        try:
            every(read(path))
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error), (kind, error)
        else:
            pytest.fail(f"{kind} was read")


def test_damage_of_bart_s_numbers_is_seen_by_their_count(tmp_path):
    path = SOUND["a.cfl"](tmp_path / "a.cfl")
    path.write_bytes(waves(4, 5).tobytes())
    with pytest.raises(ValueError, match=r"a.cfl: .*it holds 160 bytes where a.hdr claims 960"):
        read(path)
