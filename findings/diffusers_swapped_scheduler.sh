#!/usr/bin/env bash
# One would guess that HeunDiscreteScheduler.from_config(other.config), the documented way to swap samplers, keeps the noise
# levels that the network was trained with. If they are the other's defaults and were not given explicitly, they are
# replaced by the new class's defaults, which differ: 0.00085 to 0.012 instead of 0.0001 to 0.02 for Heun, KDPM2 and
# KDPM2Ancestral, and another schedule as well for LCM and TCD. Given explicitly, or saved and loaded, they are kept.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import sys

import diffusers
from diffusers import DDPMScheduler

print("diffusers", diffusers.__version__)
DDPMScheduler().save_pretrained("saved")
ways = {
    "by default": DDPMScheduler(),
    "explicitly": DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    "from a file": DDPMScheduler.from_pretrained("saved"),
}
changed = {way: [] for way in ways}
for kind in ("DDIM", "EulerDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "LCM", "TCD"):
    for way, ddpm in ways.items():
        config = getattr(diffusers, f"{kind}Scheduler").from_config(ddpm.config).config
        given = config.beta_start, config.beta_end, config.beta_schedule
        print(f"DDPM {way}, then {kind}: {given}")
        if given != (0.0001, 0.02, "linear"):
            changed[way].append(kind)
others = ["HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "LCM", "TCD"]
sys.exit(changed != {"by default": others, "explicitly": [], "from a file": []})
PY
