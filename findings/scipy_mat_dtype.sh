#!/usr/bin/env bash
# One would guess that scipy.io.loadmat(path, mat_dtype=True) gives the numbers of a .mat file in MATLAB's own type, and
# complex ones as such, as it does without the option. With it complex numbers lose their imaginary part: the type that it
# takes is "double", and only a ComplexWarning, which many silence, says so.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import sys
import warnings

import numpy as np
import scipy
from scipy.io import loadmat, savemat

print("scipy", scipy.__version__)
savemat("a.mat", {"z": np.array([[1 + 2j, 3]])})
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    plain, typed = (loadmat("a.mat", mat_dtype=option)["z"] for option in (False, True))
print("mat_dtype=False:", plain)
print("mat_dtype=True:", typed, [str(one.message) for one in said])
sys.exit(not np.iscomplexobj(plain) or np.iscomplexobj(typed))
PY
