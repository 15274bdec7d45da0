"""Small networks for tests, with weights that let every part of them have an effect."""

from __future__ import annotations

from typing import Any

import torch

from scorefield import VP, EDMPrecond, Preconditioned
from scorefield.nn import MLP, NCSN, EDM2UNet, NCSNpp, Network, Pyramid, UNet, seeded

SMALL = {"width": 4, "channels": (4, 8), "blocks": 1, "attention": (False, True), "dropout": 0.0, "fourier_scale": 1.0}

# name: (class, arguments, event shape to run, condition's shape)
NETWORKS: dict[str, tuple[type[Network], dict[str, Any], tuple[int, ...], tuple[int, ...] | None]] = {
    "vector": (MLP, {"event_shape": (2,), "features": 16, "blocks": 2}, (2,), None),
    "scalar": (MLP, {"event_shape": (), "features": 8, "blocks": 1}, (), None),
    "points": (MLP, {"event_shape": (5, 3), "classes": 3, "features": 8, "cond_features": 2}, (5, 3), (2,)),
    "signal": (UNet, {"event_shape": (1, 16), "classes": 3, "channels": (4, 8), "blocks": 1}, (1, 16), None),
    "image": (
        UNet,
        {"event_shape": (3, 8, 8), "classes": 3, "channels": (4, 8), "blocks": 1, "attention": (True, True)},
        (3, 8, 12),
        None,
    ),
    "given vector": (
        UNet,
        {"event_shape": (1, 8, 8), "channels": (8,), "blocks": 1, "cond_features": 2},
        (1, 4, 6),
        (2,),
    ),
    "given image": (
        UNet,
        {"event_shape": (1, 8, 8), "channels": (4, 8), "blocks": 1, "cond_channels": 2},
        (1, 4, 6),
        (2, 4, 6),
    ),
    "ncsn": (NCSN, {"event_shape": (3, 8, 8), "channels": (4, 8, 6, 6), "noise_levels": 3}, (3, 12, 16), None),
    "ncsn++": (NCSNpp, {"event_shape": (3, 8, 8), "classes": 3, **SMALL}, (3, 8, 12), None),
    "ddpm": (
        NCSNpp,
        {
            "event_shape": (3, 8, 8),
            **SMALL,
            "fourier_scale": None,
            "resample_blocks": False,
            "fir": False,
            "rescale": False,
            "pyramid_in": Pyramid.NONE,
            "attention_each": True,
            "group_width": 2,
        },
        (3, 6, 8),
        None,
    ),
    "skips": (
        NCSNpp,
        {
            "event_shape": (1, 8, 8),
            **SMALL,
            "concatenate": True,
            "pyramid_in": Pyramid.SKIP,
            "pyramid_out": Pyramid.SKIP,
            "head_channels": 4,
        },
        (1, 8, 8),
        None,
    ),
    "residuals": (
        NCSNpp,
        {"event_shape": (1, 8, 8), **SMALL, "resample_blocks": False, "pyramid_out": Pyramid.RESIDUAL},
        (1, 8, 8),
        None,
    ),
    "edm2": (
        EDM2UNet,
        {
            "event_shape": (3, 8, 8),
            "classes": 3,
            "channels": (4, 8),
            "blocks": 1,
            "attention": (False, True),
            "head_channels": 4,
        },
        (3, 8, 11),
        None,
    ),
    "volume": (UNet, {"event_shape": (2, 4, 4, 4), "channels": (4, 8), "blocks": 1}, (2, 4, 4, 8), None),
}


def awake(net: Network, scale: float = 0.3, seed: int = 0) -> Network:
    """The network with noise on every weight: fresh ones are zero at their ends, which hides what comes before."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p += scale * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return net


def make(name: str, dtype: torch.dtype = torch.float64) -> Network:
    """A network of the table, awake."""
    cls, arguments, _, _ = NETWORKS[name]
    with seeded(0):
        return awake(cls(**arguments).to(dtype))


def inputs(name: str, n: int = 4, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A batch for a network of the table: x, and the keywords it takes."""
    _, arguments, shape, cond = NETWORKS[name]
    g = torch.Generator().manual_seed(1)
    x = torch.randn(n, *shape, generator=g, dtype=torch.float64)
    given = {"noise": 0.5 * torch.randn(n, generator=g, dtype=torch.float64)}
    if "noise_levels" in arguments:
        given["noise"] = torch.linspace(0, arguments["noise_levels"] - 1, n, dtype=torch.float64)
    if "classes" in arguments:
        given["label"] = torch.arange(n) % (arguments["classes"] + 1) - 1
    if cond is not None:
        given["cond"] = torch.randn(n, *cond, generator=g, dtype=torch.float64)
    return x.to(dtype), {k: v if k == "label" else v.to(dtype) for k, v in given.items()}


def labelled_denoiser(kind: str) -> Preconditioned:
    """Of (1, 8, 8) and 4 classes, with random weights throughout, so that its output depends on everything."""
    with seeded(0):
        net = MLP((1, 8, 8), 4, 64, 2) if kind == "MLP" else UNet((1, 8, 8), 4, (16, 32), 1)
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=0.05 if weight.ndim == 1 else 1 / weight[0].numel() ** 0.5)
    return Preconditioned(net, VP(), EDMPrecond(0.5))
