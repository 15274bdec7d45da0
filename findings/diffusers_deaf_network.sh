#!/usr/bin/env bash
# One would guess that a UNet2DModel's output depends on its timestep. The timestep is added to each channel before a group
# norm of 32 groups (the default); in a block of 32 channels each group is one channel, and the norm takes off whatever was
# added to it. A network of 32 channels throughout takes no notice of timestep or class, and trains without an error.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1
"$folder/venv/bin/python" - <<'PY'
import sys

import diffusers
import torch
from diffusers import UNet2DModel

print("diffusers", diffusers.__version__)
difference = {}
for channels in (32, 64):
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8,
        block_out_channels=(channels, channels),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        first, last = net(x, 0).sample, net(x, 999).sample
    difference[channels] = float((first - last).norm() / last.norm())
    print(f"{channels} channels: outputs at steps 0 and 999 are {difference[channels]:.1e} apart, relative")
sys.exit(not difference[32] < 1e-5 < 1e-3 < difference[64])
PY
