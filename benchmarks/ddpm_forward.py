"""A forward pass of DDPM for CIFAR-10, 35.7 million parameters: ours and diffusers' UNet2DModel with the same weights.

    .venv-peers/bin/python benchmarks/ddpm_forward.py

Eight images, taken in turns, each network in its better memory format; medians of a dozen calls. FLOPs are counted by
torch, the peak is the fastest of some 3 x 3 convolutions measured in the same run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
import train_step

import scorefield as sf
from scorefield.interop import load_diffusers

ROUNDS = 12
CIFAR10 = {
    "attention_head_dim": None,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "sample_size": 32,
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}


@torch.no_grad()
def main() -> None:
    warnings.simplefilter("ignore")
    from diffusers import DDPMScheduler, UNet2DModel

    with sf.nn.seeded(0):
        theirs = UNet2DModel(**CIFAR10).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(Path(folder) / "unet")
        DDPMScheduler().save_pretrained(Path(folder) / "scheduler")
        ours = load_diffusers(folder).denoiser.net
    x, k = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8) * 140
    last = x.contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        wanted = theirs(x, k).sample
    print(f"largest difference of the outputs: {float((ours(x, k.float()) - wanted).abs().max()):.1e}")
    calls: dict[str, Callable[[], Tensor]] = {
        "scorefield": lambda: ours(x, k.float()),
        "diffusers": lambda: theirs.to(memory_format=torch.contiguous_format)(x, k).sample,
        "diffusers, channels last": lambda: theirs.to(memory_format=torch.channels_last)(last, k).sample,
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            call()  # the format is changed by this one
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    peak = train_step.convolution_peak(torch.float32)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; convolution peak {peak:.0f} GFLOP/s")
    for name, seconds in times.items():
        median = statistics.median(seconds[1:])
        rate = counter.get_total_flops() / median / 1e9
        print(f"{name:26}{1000 * median:>8.0f} ms{rate:>7.0f} GFLOP/s{100 * rate / peak:>6.0f} % of the peak")


if __name__ == "__main__":
    main()
