#!/usr/bin/env bash
# One would guess that xarray and netCDF4 read the same numbers of a NetCDF file. They do not where numbers were never written
# and the file does not say by _FillValue what stands for them: the standard has a default for each type. netCDF4 masks it,
# xarray gives it as a number, 9.969209968386869e+36 in float32 and float64; of packed integers it scales it, so that a
# temperature that was never measured is -57.67.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check xarray==2026.9.0 netCDF4==1.7.5.1.post1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import sys

import netCDF4
import numpy as np
import xarray as xr

print("xarray", xr.__version__, "netCDF4", netCDF4.__version__)
with netCDF4.Dataset("a.nc", "w") as file:
    file.createDimension("n", 4)
    file.createVariable("real", "f4", ("n",))[:2] = [1.5, 2.5]
    packed = file.createVariable("packed", "i2", ("n",))
    packed.scale_factor, packed.add_offset = 0.01, 270.0
    packed[:2] = [280.0, 281.0]
with netCDF4.Dataset("a.nc") as file:
    masked = {name: np.ma.count_masked(file[name][:]) for name in ("real", "packed")}
missing = {name: int(np.isnan(xr.open_dataset("a.nc")[name]).sum()) for name in masked}
print("missing by netCDF4:", masked)
print("missing by xarray:", missing)
print(xr.open_dataset("a.nc")["real"].values, xr.open_dataset("a.nc")["packed"].values)
sys.exit((masked, missing) != ({"real": 2, "packed": 2}, {"real": 0, "packed": 0}))
PY
