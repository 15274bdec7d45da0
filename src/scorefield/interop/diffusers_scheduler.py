"""Schedulers of diffusers: the noise levels of its pipelines, and how their networks are told of them."""

from __future__ import annotations

from typing import Any

import torch

from scorefield.interop.configuration import Configuration
from scorefield.processes import VE, VP, GaussianSDE
from scorefield.score import DDPMPrecond, Precond, Preconditioned, Prediction, Schedule, VEPrecond, VPPrecond

VERSION = "0.42.1"  # of diffusers, whose layout is written
# those that know the noise levels of DDPM's steps
DDPM_SCHEDULERS = (
    "DDPMScheduler",
    "DDIMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
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


def process(told: Configuration, fourier: bool, centres: bool) -> tuple[GaussianSDE, Precond]:
    """The process of a scheduler's noise levels, in the space of data in [-1, 1], or [0, 1] if nothing centres them."""
    if fourier:
        told.one_of("_class_name", "ScoreSdeVeScheduler")
        unit = 2.0 if centres else 1.0
        low, high = told.get("sigma_min", float, 0.01), told.get("sigma_max", float, 1348.0)
        return VE(unit * low, unit * high), VEPrecond(unit)
    told.one_of("_class_name", *DDPM_SCHEDULERS, default="DDPMScheduler")
    if "trained_betas" in told:
        raise ValueError(f"{told.where}: has trained_betas: only schedules with a name are known")
    for name in ("rescale_betas_zero_snr", "use_flow_sigmas"):
        told.one_of(name, False, default=False)
    predicts = "epsilon" if told.one_of("predict_epsilon", True, False, default=True) else "sample"
    schedule = SCHEDULES[told.one_of("beta_schedule", *SCHEDULES, default="linear")]
    precond = DDPMPrecond(
        told.get("beta_start", float, 1e-4),
        told.get("beta_end", float, 0.02),
        told.get("num_train_timesteps", int, 1000),
        schedule,
        PREDICTIONS[told.one_of("prediction_type", *PREDICTIONS, default=predicts)],
    )
    return precond.process(), precond


def scheduler(denoiser: Preconditioned) -> dict[str, Any]:
    """The scheduler of a model's process and preconditioner."""
    net: Any = denoiser.net
    precond, sde, fourier = denoiser.precond, denoiser.sde, net.fourier_scale is not None
    whole = sde.T == 1.0  # the process that a scheduler's parameters describe, to its end
    if fourier and isinstance(precond, VEPrecond) and precond.unit == 2.0 and isinstance(sde, VE) and whole:
        return {
            "_class_name": "ScoreSdeVeScheduler",
            "_diffusers_version": VERSION,
            "num_train_timesteps": 2000,
            "snr": 0.15,
            "sigma_min": sde.sigma_min / 2,
            "sigma_max": sde.sigma_max / 2,
            "sampling_eps": 1e-5,
            "correct_steps": 1,
        }
    scheduler = {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": VERSION,
        "clip_sample": True,
        "variance_type": "fixed_small",
    }
    if not fourier and isinstance(precond, DDPMPrecond):
        return scheduler | {
            "num_train_timesteps": precond.steps,
            "beta_start": precond.beta_start,
            "beta_end": precond.beta_end,
            "beta_schedule": {value: name for name, value in SCHEDULES.items()}[precond.schedule],
            "prediction_type": {value: name for name, value in PREDICTIONS.items()}[precond.prediction],
        }
    if not fourier and isinstance(precond, VPPrecond) and precond.scale == 999.0 and isinstance(sde, VP) and whole:
        # the network was told 999 t: step k is time k / 999; at the first, half a step, the noise must not be zero
        t = torch.arange(1000, dtype=torch.float64).clamp(min=0.5) / 999
        log_a2 = -torch.cat((torch.zeros(1, dtype=t.dtype), sde.integral(t)))
        return scheduler | {
            "num_train_timesteps": 1000,
            "trained_betas": (-torch.expm1(log_a2.diff())).tolist(),
            "prediction_type": "epsilon",
        }
    raise ValueError(
        f"diffusers has no scheduler for {type(precond).__name__} on {type(sde).__name__} with this network: "
        "positional embedding goes with DDPMPrecond, or VPPrecond on VP, Fourier embedding with VEPrecond(2) on VE, "
        "both with T = 1"
    )
