#!/usr/bin/env bash
# Pillow's documentation says that a picture is saved to a file object with seek, tell and write. One would guess that this
# holds for several pages, as it does for GIF, WebP, APNG and PDF. TIFF wants to read as well: save_all=True with pages to
# append raises UnsupportedOperation ("read") on a file that is open for writing alone ("wb"), and leaves it empty;
# one page, or a file that is open for reading too ("w+b", BytesIO), goes well.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.0.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import io
import sys

import PIL
from PIL import Image

print("Pillow", PIL.__version__)
page, went_well = Image.new("L", (4, 4)), {}
for kind in ("TIFF", "PNG", "GIF", "WEBP", "PDF"):
    for mode in ("wb", "w+b"):
        with open(f"{sys.argv[1]}/pages", mode) as file:
            try:
                page.save(file, format=kind, save_all=True, append_images=[Image.new("L", (4, 4), 9)])
                went_well[kind, mode] = True
            except io.UnsupportedOperation as error:
                went_well[kind, mode] = False
                print(f"{kind}, two pages, {mode!r}: UnsupportedOperation: {error}")
with open(f"{sys.argv[1]}/page", "wb") as file:
    page.save(file, format="TIFF", save_all=True)
print("one page of TIFF goes well, and two of the others")
sys.exit([key for key, well in went_well.items() if not well] != [("TIFF", "wb")])
PY
