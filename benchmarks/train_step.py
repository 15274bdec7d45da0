"""Speed of a training step on 1 x 32 x 32 images, batch 64: our U-Nets beside the peers' that are installed.

    make benchmarks     (or: python benchmarks/train_step.py)

Networks of about 2 million parameters in their default form; forward, backward and a step of fused AdamW. FLOPs are
counted by torch for forward and backward together; the peak is the fastest of some 3 x 3 convolutions measured in the
same run. Each in its better memory format; the median of ten steps.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
import peers

import scorefield as sf

BATCH, STEPS = 64, 10
SMALL = {"width": 32, "channels": (32, 64, 64), "blocks": 2, "attention": (False, True, False), "dropout": 0.0}
Call = Callable[[nn.Module, Tensor], Tensor]


def main() -> None:
    peers.hide_optional_imports()
    peaks = {dtype: convolution_peak(dtype) for dtype in (torch.float32, torch.bfloat16)}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; convolution peak in GFLOP/s: ", end="")
    print(", ".join(f"{str(dtype)[6:]} {peak:.0f}" for dtype, peak in peaks.items()))
    print(f"{'':12}{'parameters':>12}{'MFLOP/image':>13}{'':>10}{'images/s':>10}{'GFLOP/s':>9}{'of peak':>9}")
    x = torch.randn(BATCH, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for name, (net, call) in networks().items():
        flops = count(net, x, call)
        weights = sum(p.numel() for p in net.parameters())
        for dtype, peak in peaks.items():
            seconds = min(
                step_time(net, x, call, dtype, order) for order in (torch.contiguous_format, torch.channels_last)
            )
            rate = flops / seconds / 1e9
            print(
                f"{name:12}{weights:>12,}{flops / BATCH / 1e6:>13.0f}{str(dtype)[6:]:>10}"
                f"{BATCH / seconds:>10.1f}{rate:>9.0f}{100 * rate / peak:>8.0f}%"
            )


def networks() -> dict[str, tuple[nn.Module, Call]]:
    """Each with its way of being called; the noise level is a vector of one number a sample."""
    noise = torch.rand(BATCH, generator=torch.Generator().manual_seed(1))
    with sf.nn.seeded(0):
        own = {
            "UNet": sf.nn.UNet((1, 32, 32), channels=(48, 64, 80), blocks=1),
            "NCSN++": sf.nn.NCSNpp((1, 32, 32), **SMALL),
            "DDPM++": sf.nn.NCSNpp((1, 32, 32), **SMALL, fourier_scale=None, fir=False, pyramid_in=sf.nn.Pyramid.NONE),
        }
    found: dict[str, tuple[nn.Module, Call]] = {name: (net, lambda net, x: net(x, noise)) for name, net in own.items()}
    with contextlib.suppress(ImportError):
        from azula.nn.unet import UNet

        modulation = noise[:, None].expand(BATCH, 128)
        net = UNet(1, 1, mod_features=128, hid_channels=(32, 64, 96), hid_blocks=(3, 3, 3))
        found["azula"] = net, lambda net, x: net(x, modulation)
    with contextlib.suppress(ImportError):
        from diffusers import UNet2DModel

        blocks = {
            "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        }
        net = UNet2DModel(32, 1, 1, block_out_channels=(32, 64, 96), layers_per_block=1, norm_num_groups=8, **blocks)
        found["diffusers"] = net, lambda net, x: net(x, noise).sample
    return found


def count(net: nn.Module, x: Tensor, call: Call) -> int:
    with FlopCounterMode(display=False) as counter:
        call(net, x).square().mean().backward()
    return counter.get_total_flops()


def step_time(net: nn.Module, x: Tensor, call: Call, dtype: torch.dtype, order: torch.memory_format) -> float:
    net, x = net.to(memory_format=order), x.contiguous(memory_format=order)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    times = []
    for _ in range(STEPS + 2):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            loss = (call(net, x) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


@torch.no_grad()
def convolution_peak(dtype: torch.dtype) -> float:
    """GFLOP/s of the fastest 3 x 3 convolution of 64 to 256 channels on 32 x 32 positions."""
    best = 0.0
    for channels in (64, 128, 256):
        convolution = nn.Conv2d(channels, channels, 3, padding=1).to(dtype, memory_format=torch.channels_last)
        x = torch.randn(32, channels, 32, 32).to(dtype, memory_format=torch.channels_last)
        convolution(x)
        for _ in range(8):
            start = time.perf_counter()
            convolution(x)
            best = max(best, 2 * 9 * channels**2 * 32 * 32 * 32 / (time.perf_counter() - start) / 1e9)
    return best


if __name__ == "__main__":
    main()
