#!/usr/bin/env bash
# One would guess that a k-space is a k-space. fastMRI's fft2c and SigPy's fft count phases from the image's middle pixel and
# put the zero frequency in the middle; torch.fft.fft2 counts from the corner pixel and puts it first. Shifting the output
# alone does not bring them together: read by the other convention, an image comes back moved by half its sides. For odd
# sides fftshift and ifftshift are not the same either. The first two are orthonormal by default, torch is not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip="$folder/venv/bin/pip"
"$pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$pip" install --quiet --disable-pip-version-check sigpy==0.1.27
"$pip" install --quiet --disable-pip-version-check --no-deps fastmri==0.3.0 # its transform needs torch alone
"$folder/venv/bin/python" - <<'PY'
import importlib.util
import sys
import sysconfig

import numpy as np
import sigpy
import torch

path = f"{sysconfig.get_paths()['purelib']}/fastmri/fftc.py"  # the package itself imports what reads its data
spec = importlib.util.spec_from_file_location("fftc", path)
fftc = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fftc)

rng = np.random.default_rng(0)
image = rng.normal(size=(6, 5)) + 1j * rng.normal(size=(6, 5))
corner = np.fft.fft2(image, norm="ortho")
middle = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho"))
conventions = {
    "corner pixel, zero frequency first": corner,
    "corner pixel, zero frequency in the middle": np.fft.fftshift(corner),
    "middle pixel, zero frequency in the middle": middle,
    "the same by fftshift for ifftshift": np.fft.fftshift(np.fft.fft2(np.fft.fftshift(image), norm="ortho")),
}
tools = {
    "fastmri 0.3.0 fft2c_new": torch.view_as_complex(fftc.fft2c_new(torch.view_as_real(torch.tensor(image)))).numpy(),
    f"sigpy {sigpy.__version__} fft": sigpy.fft(image),
    f"sigpy {sigpy.__version__} fft(center=False)": sigpy.fft(image, center=False),
    f"torch {torch.__version__} fft.fft2(norm='ortho')": torch.fft.fft2(torch.tensor(image), norm="ortho").numpy(),
}
found = []
for tool, k_space in tools.items():
    found.append(next((name for name, value in conventions.items() if np.allclose(k_space, value)), "none"))
    print(f"{tool}: {found[-1]}")
moved = np.fft.ifft2(np.fft.ifftshift(middle), norm="ortho")
shifted = np.allclose(moved, np.roll(image, (-3, -2), (0, 1)))
print("a k-space of fastMRI read from the corner is the image, 6 x 5, moved by 3 and 2 pixels:", shifted)
first, _, last, *_ = conventions
sys.exit(found != [last, last, first, first] or not shifted)
PY
