"""Extractors of features from what the user typed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import register_type
from torch import nn

from scorefield.cli.parts.importing import names_a_file
from scorefield.data import Dataset, Subset, split
from scorefield.evaluate import LabelFeatures, Ledger, train_label_features
from scorefield.metrics import FeatureExtractor, Inception, ModuleFeatures
from scorefield.training import distributed


class FileOfFeatures(type(Path())):
    """A path that can be nothing else: it exists, or is written as a file's name rather than a class's."""

    @classmethod
    def named(cls, text: object) -> FileOfFeatures:
        """The path; a ValueError for what may be a class."""
        if not isinstance(text, str) or not (Path(text).is_file() or "/" in text or names_a_file(text)):
            raise ValueError(f"{text} is no file")
        return cls(text)


register_type(FileOfFeatures, str, FileOfFeatures.named)


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


def classifier_of(
    train: Subset, held_out: Dataset, seed: int, ledger: Ledger, about: Mapping[str, Any], device: torch.device
) -> LabelFeatures:
    """Features of a classifier of the data's labels, trained once on a random half of the training rows.

    Args:
        train: rows of the data.
        held_out: what its accuracy is measured on.
        seed: of the half and of the training.
        ledger: where it is kept.
        about: which data these are, with their digest.
        device: where it is trained.
    """
    kept, first = ledger.file("extractor", [dict(about), seed]), distributed.rank() == 0
    if first and not kept.exists():
        rows = train.index[split(train, 0.5, seed)[0].index]
        digest = about["digest"]
        net = train_label_features(train.data, rows, held_out, digest=digest, seed=seed, device=device, progress=True)
        net.save(kept)
    distributed.wait()
    made = LabelFeatures.load(kept)
    if first:
        print(f"the classifier is right on {100 * made.facts['held-out accuracy']:.1f} % of the held-out data")
    return made


def unseen(part: Subset, extractor: FeatureExtractor, digest: str) -> Subset:
    """The rows that features have not been fitted on: a classifier knows its own from others of the same law."""
    if not isinstance(extractor, LabelFeatures) or extractor.data != digest:
        return part
    return Subset(part.data, part.index[~torch.isin(part.index, extractor.rows.cpu())])


def _torchscript(path: Path) -> FeatureExtractor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch announces the end of TorchScript
            module: nn.Module = torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise ValueError(f"--extractor {path}: no TorchScript file ({str(error).splitlines()[0]})") from error
    return ModuleFeatures(module, path.stem)
