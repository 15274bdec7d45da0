"""How other projects bring the bytes of images into their networks' spaces."""

from __future__ import annotations

from scorefield.data import Affine

DEQUANTISED = Affine.of_levels(256)  # k + u, with u uniform in (0, 1), to [-1, 1]
CENTRED = Affine(shift=128.0, scale=127.5, levels=256)  # k to (k - 127.5) / 127.5
UNIT = Affine(shift=0.5, scale=255.0, levels=256)  # k to k / 255
