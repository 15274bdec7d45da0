"""Extractors of features from what the user typed."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from scorefield.evaluate import LabelFeatures, Sets, train_label_features
from scorefield.metrics import FeatureExtractor, Inception, ModuleFeatures, Pixels
from scorefield.plot import is_image
from scorefield.train import distributed


def named_extractor(
    extractor: nn.Module | Path | None, inception_weights: Path | None, levels: int | None
) -> FeatureExtractor | None:
    """The extractor that was asked for; None if none was."""
    if extractor is not None and inception_weights is not None:
        raise ValueError("--extractor and --inception_weights: each names the features; give one")
    if inception_weights is not None:
        if levels is None:
            raise ValueError("--inception_weights: for pictures of whole numbers; these are real numbers of any range")
        return Inception(inception_weights, levels)
    if isinstance(extractor, Path):
        if not extractor.is_file():
            raise FileNotFoundError(f"--extractor {extractor}: neither a file nor a class that can be imported")
        return LabelFeatures.load(extractor) if extractor.suffix == ".safetensors" else _torchscript(extractor)
    if extractor is None or isinstance(extractor, FeatureExtractor):
        return extractor
    return ModuleFeatures(extractor, type(extractor).__name__)


def extractor_of(
    sets: Sets,
    extractor: nn.Module | Path | None,
    inception_weights: Path | None,
    seed: int,
    folder: Path,
    device: torch.device,
) -> FeatureExtractor:
    """The extractor that was asked for, else the usual one of the data; a classifier is trained once, in the folder."""
    if found := named_extractor(extractor, inception_weights, sets.train.levels):
        return found.to(device)
    first = distributed.rank() == 0
    usual = "a classifier of the data's labels" if sets.train.classes > 1 else "the samples' own numbers"
    if first and is_image(sets.train.event_shape):
        print(f"features: {usual}; with --inception_weights, the published file, distances would be the FID")
    if sets.train.classes < 2:
        return Pixels()
    kept = folder / f"extractor-{sets.about['digest']}-{seed}.safetensors"
    if first and not kept.exists():
        train_label_features(sets.train, sets.held_out, seed=seed, device=device, progress=True).save(kept)
    distributed.wait()
    made = LabelFeatures.load(kept)
    if first:
        print(f"the classifier is right on {100 * made.facts['held-out accuracy']:.1f} % of the held-out data")
    return made.to(device)


def _torchscript(path: Path) -> FeatureExtractor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch announces the end of TorchScript
            module: nn.Module = torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise ValueError(f"--extractor {path}: no TorchScript file ({str(error).splitlines()[0]})") from error
    return ModuleFeatures(module, path.stem)
