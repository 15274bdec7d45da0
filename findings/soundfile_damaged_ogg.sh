#!/usr/bin/env bash
# One would guess that soundfile refuses a damaged Ogg file, as it does a damaged FLAC file: each page of Ogg has a checksum.
# It leaves pages out whose checksum is wrong, without a word: one bit changed makes a recording shorter, and all that comes
# behind it comes too early.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import io
import sys

import numpy as np
import soundfile as sf

print("soundfile", sf.__version__, sf.__libsndfile_version__)
wave = (20_000 * np.sin(np.arange(160_000) / 20)).astype("i2")
silent = {}
for kind in ("FLAC", "OGG"):
    file = io.BytesIO()
    sf.write(file, wave, 8000, format=kind)
    content = bytearray(file.getvalue())
    content[len(content) // 2] ^= 1
    try:
        count = len(sf.read(io.BytesIO(content))[0])
        print(f"{kind}: {count} values of {len(wave)}")
        silent[kind] = count
    except sf.LibsndfileError as error:
        print(f"{kind}: {error}")
sys.exit(set(silent) != {"OGG"} or silent["OGG"] >= len(wave))
PY
