"""Seconds and peak memory of reading a Parquet file, of 30 million rows of 4 columns unless told otherwise.

    python benchmarks/parquet.py
    PYTHONPATH=elsewhere/src python benchmarks/parquet.py    # the same by another version

Memory is what reading adds to the process at most, in units of the array that it gives.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

WRITE = """
import sys
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
rng, rows = np.random.default_rng(0), int(sys.argv[2])
columns = {name: rng.normal(size=rows) for name in "abcd"}
pq.write_table(pa.table(columns), sys.argv[1])
"""

READ = """
import sys, time
from pathlib import Path
from scorefield.data import read

def of(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10

read(sys.argv[1])  # what is imported and started once
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before, start = of("VmRSS"), time.perf_counter()
data = read(sys.argv[2])
seconds, size = time.perf_counter() - start, data.x.nbytes
print(f"{len(data):,} rows of {data.event_shape[0]} columns, {size / 2**20:.0f} MiB: {seconds:.2f} s, "
      f"{(of('VmHWM') - before) / size:.2f} times the size in memory")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=30_000_000)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.parquet" for name in ("small", "large")]
        for file, rows in zip(files, (1000, parser.parse_args().rows), strict=True):
            subprocess.run([sys.executable, "-c", WRITE, str(file), str(rows)], check=True)
        subprocess.run([sys.executable, "-c", READ, *map(str, files)], check=True)


if __name__ == "__main__":
    main()
