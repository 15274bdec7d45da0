#!/usr/bin/env bash
# One would guess that scheduler_config.json, as save_pretrained writes it, is JSON. For schedulers with a
# lambda_min_clipped, such as DPMSolverMultistepScheduler, it holds the default of that option as -Infinity, which JSON does
# not have: strict parsers (JavaScript, jq, Rust, Go, Python with parse_constant) refuse the file; Python's json reads it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import json
import sys
from pathlib import Path

import diffusers

print("diffusers", diffusers.__version__)
bad = []


def refuse(name):
    raise ValueError(f"{name} is not JSON")


for kind in ("DPMSolverMultistep", "DPMSolverSinglestep", "SASolver", "DDIM"):
    getattr(diffusers, f"{kind}Scheduler")().save_pretrained(kind)
    text = (Path(kind) / "scheduler_config.json").read_text()
    try:
        json.loads(text, parse_constant=refuse)
        print(f"{kind}: JSON")
    except ValueError as error:
        bad.append(kind)
        print(f"{kind}: {error}; the line is", next(line.strip() for line in text.splitlines() if "Infinity" in line))
sys.exit(bad != ["DPMSolverMultistep", "DPMSolverSinglestep", "SASolver"])
PY
