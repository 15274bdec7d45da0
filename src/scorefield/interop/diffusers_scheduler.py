"""Schedulers of diffusers: the noise levels of its pipelines, and how their networks are told of them."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorefield.interop.configuration import Configuration
from scorefield.processes import EDM, VE, VP, GaussianSDE
from scorefield.score import (
    DDPMPrecond,
    EDMPrecond,
    Precond,
    Preconditioned,
    Prediction,
    Schedule,
    VelocityPrecond,
    VEPrecond,
    VPPrecond,
)

VERSION = "0.42.1"  # of diffusers, whose layout is written


class Usual(NamedTuple):
    """What a class takes for options that a configuration does not name, and whether it knows zero terminal SNR."""

    beta_start: float = 1e-4
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    rescales: bool = False


# those that know the noise levels of DDPM's steps
DDPM_SCHEDULERS = {
    "DDPMScheduler": Usual(rescales=True),
    "DDPMParallelScheduler": Usual(rescales=True),
    "DDIMScheduler": Usual(rescales=True),
    "DDIMInverseScheduler": Usual(rescales=True),
    "DDIMParallelScheduler": Usual(rescales=True),
    "DEISMultistepScheduler": Usual(),
    "DPMSolverMultistepScheduler": Usual(rescales=True),
    "DPMSolverMultistepInverseScheduler": Usual(),
    "DPMSolverSDEScheduler": Usual(0.00085, 0.012),
    "DPMSolverSinglestepScheduler": Usual(),
    "EulerAncestralDiscreteScheduler": Usual(rescales=True),
    "EulerDiscreteScheduler": Usual(rescales=True),
    "HeunDiscreteScheduler": Usual(0.00085, 0.012),
    "KDPM2AncestralDiscreteScheduler": Usual(0.00085, 0.012),
    "KDPM2DiscreteScheduler": Usual(0.00085, 0.012),
    "LMSDiscreteScheduler": Usual(),
    "PNDMScheduler": Usual(),
    "RePaintScheduler": Usual(),
    "SASolverScheduler": Usual(),
    "UnCLIPScheduler": Usual(beta_schedule="squaredcos_cap_v2"),
    "UniPCMultistepScheduler": Usual(rescales=True),
}
EDM_SCHEDULERS = "EDMDPMSolverMultistepScheduler", "EDMEulerScheduler"
# why others with such noise levels are not read
REFUSED = {
    "CogVideoXDDIMScheduler": "its SNR is shifted",
    "CogVideoXDPMScheduler": "its SNR is shifted",
    "LCMScheduler": "its network jumps to the data, which is no denoiser",
    "TCDScheduler": "its network jumps along the path, which is no denoiser",
}
PREDICTIONS = {
    "epsilon": Prediction.NOISE,
    "v_prediction": Prediction.VELOCITY,
    "sample": Prediction.DATA,
}
SCHEDULES = {
    "linear": Schedule.LINEAR,
    "scaled_linear": Schedule.SCALED_LINEAR,
    "squaredcos_cap_v2": Schedule.COSINE,
}
LEAST = 2.0**-24  # of a^2, which is 0 at the last step of zero terminal SNR: as their Euler method takes it


def process(told: Configuration, fourier: bool, centres: bool) -> tuple[GaussianSDE, Precond]:
    """The process of a scheduler's noise levels, in the space of data in [-1, 1], or [0, 1] if nothing centres them."""
    if fourier:
        told.one_of("_class_name", "ScoreSdeVeScheduler")
        unit = 2.0 if centres else 1.0
        low, high = told.get("sigma_min", float, 0.01), told.get("sigma_max", float, 1348.0)
        return VE(unit * low, unit * high), VEPrecond(unit)
    name = str(told.values.get("_class_name") or "DDPMScheduler")
    if name in REFUSED:
        raise ValueError(f"{told.where}: a {name} is not read, since {REFUSED[name]}")
    told.one_of("_class_name", *DDPM_SCHEDULERS, *EDM_SCHEDULERS, default=name)
    if name in EDM_SCHEDULERS:
        return _levels(told, 0.002, 80.0), _edm(told)
    precond = _ddpm(told, name)
    kind = told.one_of("timestep_type", "discrete", "continuous", default="discrete")
    if (name, kind, precond.prediction) != ("EulerDiscreteScheduler", "continuous", Prediction.VELOCITY):
        return precond.process(), precond  # all others tell steps, whatever their timestep_type
    high, low = (-0.5 * precond.log_snrs()[[-1, 0]]).exp().tolist()
    own = any(told.values.get(f"use_{way}_sigmas") for way in ("karras", "exponential", "beta"))
    return _levels(told, low, high) if own else EDM(T=high, t_min=low, t_end=low), VelocityPrecond()


def _levels(told: Configuration, low: float, high: float) -> EDM:
    """The process of sigma_min and sigma_max."""
    low, high = told.get("sigma_min", float, low), told.get("sigma_max", float, high)
    return told.made(EDM, T=high, t_min=low, t_end=low)


def _edm(told: Configuration) -> Precond:
    """What the network of an EDM predicts."""
    data = told.get("sigma_data", float, 0.5)
    if told.one_of("prediction_type", "epsilon", "v_prediction", default="epsilon") == "epsilon":
        return told.made(EDMPrecond, data)
    if data != 1:
        raise ValueError(f"{told.where}: wanted sigma_data 1 of a network that predicts v; got {data}")
    return VelocityPrecond()


def _ddpm(told: Configuration, name: str) -> DDPMPrecond:
    """The steps of a DDPM and what its network predicts."""
    usual = DDPM_SCHEDULERS[name]
    told.one_of("use_flow_sigmas", False, default=False)
    rescales = told.one_of("rescale_betas_zero_snr", False, *([True] if usual.rescales else []), default=False)
    predicts = "epsilon" if told.one_of("predict_epsilon", True, False, default=True) else "sample"
    kind = told.one_of("beta_schedule", *SCHEDULES, "sigmoid", default=usual.beta_schedule)
    steps = told.get("num_train_timesteps", int, 1000)
    low, high = told.get("beta_start", float, usual.beta_start), told.get("beta_end", float, usual.beta_end)
    prediction = PREDICTIONS[told.one_of("prediction_type", *PREDICTIONS, default=predicts)]
    make = partial(told.made, DDPMPrecond, low, high, steps, SCHEDULES.get(kind, Schedule.LINEAR), prediction)
    precond, betas = make(), None
    if "trained_betas" in told:
        betas = torch.tensor(told.numbers("trained_betas", steps), dtype=torch.float64)
    elif kind == "sigmoid":
        betas = low + (high - low) * torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
    if rescales or (betas is not None and betas[-1] == 1):
        if prediction is Prediction.NOISE:
            raise ValueError(
                f"{told.where}: wanted rescale_betas_zero_snr to be False, and the last of trained_betas below 1, of a "
                "network that predicts noise: where nothing but noise is left it says nothing of the data"
            )
        betas = _zero_snr(precond.log_snrs().sigmoid() if betas is None else (1 - betas).cumprod(0))
    return precond if betas is None else make(betas=tuple(betas.tolist()))


def _zero_snr(bar: Tensor) -> Tensor:
    """Variances after which nothing is left of the data  (Lin et al. 2024, algorithm 1), up to what a number takes."""
    root = bar.sqrt()
    bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    bar[-1] = min(LEAST, 0.5 * float(bar[-2]))
    return 1 - bar / torch.cat((bar.new_ones(1), bar[:-1]))


def scheduler(denoiser: Preconditioned, centres: bool) -> dict[str, Any]:
    """The scheduler of a model's process and preconditioner.

    Args:
        denoiser: the model of data in [-1, 1].
        centres: False if they lie in [0, 1].
    """
    net: Any = denoiser.net
    unit = 2.0 if centres else 1.0
    precond, sde, fourier = denoiser.precond, denoiser.sde, net.fourier_scale is not None
    whole = sde.T == 1.0  # the process that a scheduler's parameters describe, to its end
    if fourier and isinstance(precond, VEPrecond) and precond.unit == unit and isinstance(sde, VE) and whole:
        return {
            "_class_name": "ScoreSdeVeScheduler",
            "_diffusers_version": VERSION,
            "num_train_timesteps": 2000,
            "snr": 0.15,
            "sigma_min": sde.sigma_min / unit,
            "sigma_max": sde.sigma_max / unit,
            "sampling_eps": 1e-5,
            "correct_steps": 1,
        }
    scheduler = {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": VERSION,
        "clip_sample": True,
        "variance_type": "fixed_small",
    }
    if centres and not fourier and isinstance(precond, DDPMPrecond):
        schedule = {
            "beta_start": precond.beta_start,
            "beta_end": precond.beta_end,
            "beta_schedule": {value: name for name, value in SCHEDULES.items()}[precond.schedule],
        }
        return scheduler | {
            "num_train_timesteps": precond.steps,
            **(schedule if precond.betas is None else {"trained_betas": list(precond.betas)}),
            "prediction_type": {value: name for name, value in PREDICTIONS.items()}[precond.prediction],
        }
    told_time = isinstance(precond, VPPrecond) and precond.scale == 999.0
    if centres and not fourier and told_time and isinstance(sde, VP) and whole:
        # the network was told 999 t: step k is time k / 999; at the first, half a step, the noise must not be zero
        t = torch.arange(1000, dtype=torch.float64).clamp(min=0.5) / 999
        log_a2 = -torch.cat((torch.zeros(1, dtype=t.dtype), sde.integral(t)))
        return scheduler | {
            "num_train_timesteps": 1000,
            "trained_betas": (-torch.expm1(log_a2.diff())).tolist(),
            "prediction_type": "epsilon",
        }
    given = f"{type(precond).__name__} on {type(sde).__name__}, of data in {'[-1, 1]' if centres else '[0, 1]'}"
    raise ValueError(
        f"diffusers has no scheduler for {given}, with this network: positional embedding goes with DDPMPrecond, or "
        "VPPrecond on VP, of data in [-1, 1]; Fourier embedding with VEPrecond on VE, of unit 2 for data in [-1, 1], 1 "
        "for data in [0, 1]; all with T = 1"
    )
