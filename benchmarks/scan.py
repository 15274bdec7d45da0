"""Seconds and memory of looking through a folder of many pictures, and one of many shards, before anything is decoded.

    python benchmarks/scan.py

The scan is all that `read` does before the first picture: names, classes, parts, what is left. Beside it stands the
least that could tell as much: `find`, and the first bytes of every file; of shards the heads of their members, by
`tarfile`.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

MEASURE = """
import os, subprocess, sys, tarfile, time
from pathlib import Path
what, path = sys.argv[1], Path(sys.argv[2])

def of(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10

def scan():
    assert format_of(path) is None and hub_files(path) == ([], [])
    listing = listed(path, SUFFIXES)
    return len(sort(listing, listing.ending(SUFFIXES)).label)

def least():
    found = subprocess.run(["find", path, "-type", "f"], capture_output=True, check=True).stdout.splitlines()
    for name in found:
        if name.endswith(b".tar"):
            with tarfile.open(os.fsdecode(name)) as tape:
                count = sum(info.isreg() for info in tape)
        else:
            with open(name, "rb") as file:
                file.read(64)
    return len(found)

if what == "scan":
    from scorefield.data.formats import format_of
    from scorefield.data.formats.parquet import hub_files
    from scorefield.data.images import SUFFIXES
    from scorefield.data.labels import sort
    from scorefield.data.members import listed
call = {"scan": scan, "least": least}[what]
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before, start = of("VmRSS"), time.perf_counter()
call()
print(time.perf_counter() - start, (of("VmHWM") - before) / 2**20)
"""


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file, "PNG")
    return file.getvalue()


def pictures(folder: Path, count: int) -> None:
    content = picture()
    for kind in range(10):
        (folder / f"class {kind}").mkdir()
        for k in range(count // 10):
            (folder / f"class {kind}" / f"{k:06d}.png").write_bytes(content)


def shards(folder: Path, count: int, members: int = 100) -> None:
    content = picture()
    for k in range(count):
        with tarfile.open(folder / f"{k:05d}.tar", "w") as tape:
            for j in range(members):
                info = tarfile.TarInfo(f"{k * members + j:08d}.png")
                info.size = len(content)
                tape.addfile(info, io.BytesIO(content))


def compare(name: str, make: Callable[[Path, int], None], count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        folder.mkdir()
        make(folder, count)
        best: dict[str, tuple[float, float]] = {}
        for _ in range(rounds):  # in turn, so that other work on the machine meets both
            for what in ("least", "scan"):
                words = [sys.executable, "-c", MEASURE, what, str(folder)]
                seconds, memory = map(
                    float, subprocess.run(words, capture_output=True, check=True, text=True).stdout.split()
                )
                best[what] = min(best.get(what, (np.inf, 0.0)), (seconds, memory))
    (least, _), (scan, memory) = best["least"], best["scan"]
    beside = f"{scan / least:.2f} times the {least:.2f} s of find and heads"
    print(f"{count:,} {name}: {scan:.2f} s, {beside}, {memory:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for count in (10_000, 100_000):
        compare("pictures in a folder", pictures, count, rounds)
    for count in (100, 1000):
        compare("shards of 100 pictures", shards, count, rounds)


if __name__ == "__main__":
    main()
