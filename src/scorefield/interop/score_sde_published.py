"""The configurations of score_sde_pytorch's published checkpoints, as far as a model needs them.

They go by the names of their files in that project's `configs`, without the .py.
"""

from __future__ import annotations

from typing import Any

Values = dict[str, Any]

ALL: Values = {"normalization": "GroupNorm", "nonlinearity": "swish", "nf": 128}
DDPM: Values = {**ALL, "name": "ddpm", "num_res_blocks": 2, "attn_resolutions": [16]}
NCSNPP: Values = {
    **ALL,
    "name": "ncsnpp",
    "num_res_blocks": 4,
    "attn_resolutions": [16],
    "embedding_type": "fourier",
    "fourier_scale": 16,
    "resblock_type": "biggan",
    "fir": True,
    "fir_kernel": [1, 3, 3, 1],
    "skip_rescale": True,
    "progressive": "none",
    "progressive_input": "residual",
    "progressive_combine": "sum",
}
POSITIONAL: Values = {**NCSNPP, "embedding_type": "positional"}
DDPMPP: Values = {**POSITIONAL, "fir": False, "progressive_input": "none"}
SKIPS: Values = {**NCSNPP, "progressive": "output_skip", "progressive_input": "input_skip"}
DEEP: Values = {"num_res_blocks": 8}
SIDE_32: Values = {"ch_mult": [1, 2, 2, 2], "dropout": 0.1}
SIDE_256: Values = {"ch_mult": [1, 1, 2, 2, 2, 2, 2], "num_res_blocks": 2}
SIDE_1024: Values = {"nf": 16, "ch_mult": [1, 2, 4, 8, 16, 32, 32, 32], "num_res_blocks": 1}
DDPM_256: Values = {"ch_mult": [1, 1, 2, 2, 4, 4]}


def _ve(side: int, sigma_max: float, net: Values, continuous: bool = True) -> Values:
    return {
        "training": {"sde": "vesde", "continuous": continuous},
        "data": {"image_size": side, "num_channels": 3, "centered": False},
        "model": {"scale_by_sigma": True, "sigma_min": 0.01, "sigma_max": sigma_max, "num_scales": 1000, **net},
    }


def _vp(side: int, net: Values, sde: str = "vpsde", continuous: bool = True) -> Values:
    return {
        "training": {"sde": sde, "continuous": continuous},
        "data": {"image_size": side, "num_channels": 3, "centered": True},
        "model": {"scale_by_sigma": False, "beta_min": 0.1, "beta_max": 20.0, "num_scales": 1000, **net},
    }


PUBLISHED: dict[str, Values] = {
    "ve/cifar10_ncsnpp_continuous": _ve(32, 50, NCSNPP | SIDE_32),
    "ve/cifar10_ncsnpp_deep_continuous": _ve(32, 50, NCSNPP | SIDE_32 | DEEP),
    "ve/cifar10_ncsnpp": _ve(32, 50, POSITIONAL | SIDE_32, continuous=False),
    "ve/cifar10_ddpm": _ve(32, 50, DDPM | SIDE_32, continuous=False),
    "ve/bedroom_ncsnpp_continuous": _ve(256, 378, SKIPS | SIDE_256),
    "ve/church_ncsnpp_continuous": _ve(256, 380, SKIPS | SIDE_256),
    "ve/celebahq_256_ncsnpp_continuous": _ve(256, 348, SKIPS | SIDE_256),
    "ve/ffhq_256_ncsnpp_continuous": _ve(256, 348, SKIPS | SIDE_256),
    "ve/celebahq_ncsnpp_continuous": _ve(1024, 1348, SKIPS | SIDE_1024),
    "ve/ffhq_ncsnpp_continuous": _ve(1024, 1348, SKIPS | SIDE_1024),
    "vp/cifar10_ddpmpp": _vp(32, DDPMPP | SIDE_32, continuous=False),
    "vp/cifar10_ddpmpp_continuous": _vp(32, DDPMPP | SIDE_32),
    "vp/cifar10_ddpmpp_deep_continuous": _vp(32, DDPMPP | SIDE_32 | DEEP),
    "vp/cifar10_ncsnpp": _vp(32, POSITIONAL | SIDE_32, continuous=False),
    "vp/cifar10_ncsnpp_continuous": _vp(32, POSITIONAL | SIDE_32),
    "vp/cifar10_ncsnpp_deep_continuous": _vp(32, POSITIONAL | SIDE_32 | DEEP),
    "vp/ddpm/cifar10": _vp(32, DDPM | SIDE_32, continuous=False),
    "vp/ddpm/cifar10_continuous": _vp(32, DDPM | SIDE_32),
    "vp/ddpm/bedroom": _vp(256, DDPM | DDPM_256, continuous=False),
    "vp/ddpm/church": _vp(256, DDPM | DDPM_256, continuous=False),
    "vp/ddpm/celebahq": _vp(256, DDPM | DDPM_256, continuous=False),
    "subvp/cifar10_ddpm_continuous": _vp(32, DDPM | SIDE_32, "subvpsde"),
    "subvp/cifar10_ddpmpp_continuous": _vp(32, DDPMPP | SIDE_32, "subvpsde"),
    "subvp/cifar10_ddpmpp_deep_continuous": _vp(32, DDPMPP | SIDE_32 | DEEP, "subvpsde"),
    "subvp/cifar10_ncsnpp_continuous": _vp(32, POSITIONAL | SIDE_32, "subvpsde"),
    "subvp/cifar10_ncsnpp_deep_continuous": _vp(32, POSITIONAL | SIDE_32 | DEEP, "subvpsde"),
}
