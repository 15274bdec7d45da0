"""Peak memory of training on a data set that is streamed from its file, for two sizes of it.

python benchmarks/memory.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TRAIN = """
import sys
from scorefield.cli import main
status = main(["train", "--data", sys.argv[1], "--out", sys.argv[2], "--net", "MLP", "--net.features", "16",
               "--steps", "200", "--batch_size", "64", "--device", "cpu"])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # of this program alone
print(status, int(peak.split()[1]) // 1024)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for gigabytes in (1.2, 5.0):
            path = Path(folder) / "data.npy"
            rows = int(gigabytes * 1e9) // (3 * 32 * 32)
            data = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(rows, 3, 32, 32))
            generator = np.random.default_rng(0)
            for first in range(0, rows, 100_000):
                part = data[first : first + 100_000]
                part[...] = np.frombuffer(generator.bytes(part.size), np.uint8).reshape(part.shape)
            data.flush()
            del data
            run = [sys.executable, "-c", TRAIN, str(path), f"{folder}/{gigabytes}"]
            done = subprocess.run(run, capture_output=True, text=True, check=True)
            print(f"{gigabytes} GB of images: peak {done.stdout.split()[-1]} MiB")


if __name__ == "__main__":
    main()
