"""The peers' samplers behind one interface; those that are not installed are left out."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor

Loop = tuple[Callable[[], object], int]  # a sampling loop and its number of network calls


def hide_optional_imports() -> None:
    """Empty stand-ins for packages that peers import but that these benchmarks do not use."""
    sys.meta_path.append(_Absent())


class _Absent(MetaPathFinder, Loader):
    """Imports an empty module for any of these names that no other finder knows."""

    names = frozenset(
        (
            "torchvision",
            "gdown",
            "accelerate",
            "pytorch_fid",
            "clip",
            "cleanfid",
            "kornia",
            "jsonmerge",
            "dctorch",
            "skimage",
        )
    )

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] in self.names else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


def samplers(x: Tensor, steps: int) -> dict[str, Loop]:
    """Every installed peer's fixed-grid samplers, from x over about `steps` calls of D(x) = x / 2."""
    loops: dict[str, Loop] = {}
    for family in (_azula, _diffusers, _k_diffusion):
        try:
            loops |= family(x, steps)
        except ImportError as error:
            print(f"left out: {error}", file=sys.stderr)
    return loops


def _azula(x: Tensor, steps: int) -> dict[str, Loop]:
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VESchedule, VPSchedule
    from azula.sample import DDIMSampler, DDPMSampler, EulerSampler

    class Half(Denoiser):
        def __init__(self, schedule: Any) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> DiracPosterior:
            return DiracPosterior(x_t * 0.5)

    loops: dict[str, Loop] = {}
    for name, schedule in (("VE", VESchedule(0.01, 50.0)), ("VP", VPSchedule())):
        for sampler in (EulerSampler, DDIMSampler, DDPMSampler):
            run = sampler(Half(schedule), steps=steps, silent=True)
            loops[f"azula {sampler.__name__.removesuffix('Sampler')} ({name})"] = (lambda r=run: r(x), steps)
    return loops


def _diffusers(x: Tensor, steps: int) -> dict[str, Loop]:
    import diffusers

    def loop(scheduler: Any) -> None:
        scheduler.set_timesteps(steps)
        y = x
        for t in scheduler.timesteps:
            y = scheduler.step(y * 0.5, t, y).prev_sample

    # clipping and thresholding off: they are extras, and would be counted against it
    return {
        f"diffusers {name}": (lambda s=scheduler: loop(s), steps)
        for name, scheduler in {
            "DDIM": diffusers.DDIMScheduler(clip_sample=False),
            "DDPM": diffusers.DDPMScheduler(clip_sample=False),
            "DPM-Solver++(2M)": diffusers.DPMSolverMultistepScheduler(),
            "UniPC": diffusers.UniPCMultistepScheduler(),
        }.items()
    }


def _k_diffusion(x: Tensor, steps: int) -> dict[str, Loop]:
    from k_diffusion import sampling

    sigmas = sampling.get_sigmas_karras(steps, 0.01, 50.0, device="cpu")[:-1]

    def half(y: Tensor, _sigma: Tensor, **_: Any) -> Tensor:
        return y * 0.5

    def draw(*_: Tensor) -> Tensor:
        return torch.randn_like(x)

    return {
        "k-diffusion Euler": (lambda: sampling.sample_euler(half, x, sigmas, disable=True), steps - 1),
        "k-diffusion Euler ancestral": (
            lambda: sampling.sample_euler_ancestral(half, x, sigmas, disable=True, noise_sampler=draw),
            steps - 1,
        ),
        "k-diffusion DPM-Solver++(2M)": (lambda: sampling.sample_dpmpp_2m(half, x, sigmas, disable=True), steps - 1),
    }
