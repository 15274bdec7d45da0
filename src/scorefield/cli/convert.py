"""`scorefield import` and `scorefield export`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from scorefield import interop
from scorefield._files import new_directory
from scorefield.model import ScoreModel


class Source(Enum):
    """A project whose checkpoints are read."""

    score_sde = 0
    ncsn = 1
    ncsnv2 = 2
    diffusers = 3
    edm = 4


class Target(Enum):
    """A project whose checkpoints are written."""

    diffusers = 0


class Weights(Enum):
    """Which weights of a training are meant."""

    ema = 0
    model = 1


def import_(path: Path, format: Source, out: Path, config: str | None = None, weights: Weights | None = None) -> None:
    """Makes a model of another project's checkpoint, without running anything from it.

    Args:
        path: the file, or for diffusers the folder.
        format: the project: score_sde (score_sde_pytorch), ncsn, ncsnv2, diffusers, or edm (NVIDIA's pickles).
        out: a new directory for the model.
        config: for score_sde, ncsn and ncsnv2 the configuration it was trained with, as JSON or YAML; for score_sde
            also the name of a published one, such as ve/cifar10_ncsnpp_continuous.
        weights: for score_sde and ncsnv2, which have both: ema, the averaged ones, by default, or model, the last ones.
    """
    if (config is None) == (format in (Source.score_sde, Source.ncsn, Source.ncsnv2)):
        needs = (
            "needs the configuration that it was trained with, --config FILE" if config is None else "has no --config"
        )
        raise ValueError(f"--format {format.name}: {needs}")
    if weights is not None and format not in (Source.score_sde, Source.ncsnv2):
        raise ValueError(f"--weights {weights.name}: checkpoints of {format.name} have one set of weights alone")
    averaged = weights is not Weights.model
    with new_directory(out) as folder:
        match format:
            case Source.score_sde:
                model = interop.load_score_sde(path, str(config), averaged)
            case Source.ncsn:
                model = interop.load_ncsn(path, str(config))
            case Source.ncsnv2:
                model = interop.load_ncsnv2(path, str(config), averaged)
            case Source.diffusers:
                model = interop.load_diffusers(path)
            case Source.edm:
                model = interop.load_edm(path)
        model.save(folder)
    print(f"wrote the model to {out}; `scorefield info {out}` says what it is")


def export(run: Path, format: Target, out: Path, types: Sequence[type] = ()) -> None:
    """Writes a trained model for another project, if that has the same network; refuses with the reason otherwise.

    Args:
        run: directory of a trained model.
        format: the project: diffusers.
        out: a new directory for the pipeline.
        types: your own classes that the model is made of, by their import paths.
    """
    model = ScoreModel.load(run, types=types)
    match format:
        case Target.diffusers:
            interop.save_diffusers(model, out)
    print(f"wrote the model to {out}, for {format.name}")
