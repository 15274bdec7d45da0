#!/usr/bin/env bash
# One would guess that a picture's numbers are those in its file. Pillow keeps the number of bits that its modes have: of
# a PNG of 16 bits in colour the higher byte alone, in mode RGB like any other, and without a warning. Netpbm's grey values
# are stretched, those of a head that says 1023 to 65535 and those of one that says 100 to 255, so that they are others
# than were written. Grey PNG of 16 bits come back as they are.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import io
import struct
import sys
import zlib

import numpy as np
import PIL
from PIL import Image


def png(values):
    """Of 16 bits a channel, as the specification says."""

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def opened(content):
    with Image.open(io.BytesIO(content)) as picture:
        return picture.mode, np.asarray(picture)


print("pillow", PIL.__version__)
colour = np.arange(1000, 1012).reshape(2, 2, 3)
mode, seen = opened(png(colour))
cut = mode == "RGB" and np.array_equal(seen, colour >> 8)
print(f"PNG, 16 bits in colour, {colour.ravel()[:4]} ...: mode {mode}, {seen.ravel()[:4]} ...")
mode, seen = opened(png(colour[..., :1]))
kept = np.array_equal(seen, colour[..., 0])
print(f"PNG, 16 bits in grey, {colour[..., 0].ravel()}: mode {mode}, {seen.ravel()}")
stretched = []
for largest, dtype in ((1023, ">u2"), (100, "u1")):
    values = np.array([0, 1, 50, largest])
    mode, seen = opened(b"P5 2 2 %d\n" % largest + values.astype(dtype).tobytes())
    stretched.append(not np.array_equal(seen.ravel(), values))
    print(f"PGM whose head says {largest}, {values}: mode {mode}, {seen.ravel()}")
sys.exit(not (cut and kept and all(stretched)))
PY
