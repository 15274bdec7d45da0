#!/usr/bin/env bash
# One would guess that module.to(torch.float64) and module.double() are the same, as they are for a tensor. They are not for
# complex buffers and parameters: .to(torch.float64) makes them real and drops the imaginary part, with a warning, where
# .double() and .float() leave them as they are. Integers are left alone by all three.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys

import torch

print("torch", torch.__version__)
kinds = []
for name, move in {
    "to(torch.float64)": lambda m: m.to(torch.float64),
    "double()": lambda m: m.double(),
    "float()": lambda m: m.float(),
}.items():
    module = torch.nn.Module()
    module.register_buffer("wave", torch.tensor([1 + 2j]))
    module.register_buffer("count", torch.tensor([3]))
    move(module)
    kinds.append((module.wave.is_complex(), module.count.is_floating_point()))
    print(f"{name}: {module.wave} {module.count}")
sys.exit(kinds != [(False, False), (True, False), (True, False)])
PY
