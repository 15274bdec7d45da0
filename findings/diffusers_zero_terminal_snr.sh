#!/usr/bin/env bash
# One would guess that noise levels grow from step to step. With rescale_betas_zero_snr and the default linear variances the
# last alpha_bar, which should be 0, is set to 2^-24 by EulerDiscreteScheduler (and EulerAncestral, DPMSolverMultistep,
# UniPC), but that of the step before is already smaller: sigma is 15406 at step 998 and 4096 at step 999. A run over all
# steps begins with a step to more noise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1
"$folder/venv/bin/python" - <<'PY'
import sys

import diffusers
from diffusers import EulerDiscreteScheduler

print("diffusers", diffusers.__version__)
euler = EulerDiscreteScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
euler.set_timesteps(1000)
first = [round(float(sigma)) for sigma in euler.sigmas[:3]]
print("sigma of the steps 999, 998, 997:", first)
sys.exit(not first[0] < first[1])
PY
