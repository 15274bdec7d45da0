"""A guided model from what the user typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from scorefield.cli.parts.sources import parse_label
from scorefield.guidance import ClassifierFree
from scorefield.guidance.extrapolation import EVERYWHERE
from scorefield.model import ClassifierModel, ScoreModel
from scorefield.score import Denoiser


def guided_model(
    model: ScoreModel,
    label: str,
    cond: Tensor | None,
    guidance: float | None,
    interval: tuple[float, float] | None,
    classifier: Path | None,
    types: Sequence[type],
    device: torch.device,
) -> ScoreModel:
    """The model guided to a class: by a classifier if there is one, else without."""
    if not label:
        raise ValueError("--guidance and --classifier: lead to a class: name it by --label")
    if classifier is not None:
        if interval is not None:
            raise ValueError("--guidance_interval: goes with --guidance of a model with labels, not with --classifier")
        by = ClassifierModel.load(classifier, types=types, device=device)
        return by.guide(model, parse_label(by, label), 1.0 if guidance is None else guidance, cond=cond)
    if guidance is None:
        raise ValueError("--guidance_interval: goes with --guidance; give both")
    if model.needs_label or not model.classes:
        raise ValueError(
            "--guidance: needs a model that was trained with and without labels, by scorefield train with labels and "
            "--label_dropout above 0; or else a --classifier"
        )
    conditional, unconditional = model.given(parse_label(model, label), cond=cond), model.given(cond=cond)
    if not (isinstance(conditional, Denoiser) and isinstance(unconditional, Denoiser)):
        raise ValueError(f"--guidance: is for Gaussian processes; got {type(model.denoiser.sde).__name__}")
    return model.guided(ClassifierFree(conditional, unconditional, guidance, interval or EVERYWHERE))
