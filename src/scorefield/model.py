"""A trained model with everything that is needed to use it: one directory, one object, in the data's own units."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield import likelihood, processes, score
from scorefield import nn as networks
from scorefield._describe import build, describe
from scorefield._files import check_tensors, read_tensors, write_tensors, write_text
from scorefield._noise import Noise, as_seeds
from scorefield.data import Affine, Transform, transforms
from scorefield.likelihood import Divergence, LogProb
from scorefield.sampling import default, sample
from scorefield.score import Denoiser
from scorefield.solvers import Solver

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class ScoreModel:
    """A denoiser, the transform between its space and the data's, and what the data look like.

    Everything here takes and returns data in their own units: integers for discrete data. The functions of
    `scorefield.sampling` and `scorefield.likelihood` work in the model's space instead, on `.denoiser`.

    Args:
        denoiser: the model of the transformed data.
        event_shape: shape of one sample.
        transform: between the data's units and the model's space.
        classes: number of classes, 0 without labels.
        about: plain values to keep with the model: how it was trained, on what.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        event_shape: Sequence[int],
        transform: Transform | None = None,
        classes: int = 0,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.denoiser, self.event_shape = denoiser, tuple(event_shape)
        self.transform, self.classes, self.about = transform or Affine(), classes, dict(about or {})

    def sample(
        self,
        *,
        seeds: Iterable[int] | Tensor,
        steps: int = 20,
        label: int | Tensor | None = None,
        solver: Solver | None = None,
        times: Sequence[float] | None = None,
        batch_size: int | None = None,
        progress: bool = False,
        **cond: Tensor,
    ) -> Tensor:
        """Draws one sample for each seed.

        Args:
            seeds: one 64-bit integer for each sample; a sample depends on its own alone.
            steps: network calls for each sample with the default solver and grid.
            label: one class for all, or one for each sample.
            solver: instead of the default one.
            times: instead of the default grid of `steps` steps.
            batch_size: samples in one network call; all by default.
            progress: show a progress bar.
            cond: further conditions, one row for each sample.

        Returns:
            (n, *event) in the data's units.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1; got {steps}")
        keys = as_seeds(seeds)
        usual, grid = default(self.denoiser.sde, steps)
        z = sample(
            self._given(label, len(keys), cond),
            self.event_shape,
            grid if times is None else times,
            solver or usual,
            seeds=keys,
            batch_size=batch_size,
            progress=progress,
        )
        return self.transform.inverse(z)

    def log_prob(
        self,
        x: Tensor,
        *,
        label: int | Tensor | None = None,
        seeds: Iterable[int] | Tensor | None = None,
        steps: int = 25,
        divergence: Divergence | None = None,
        batch_size: int | None = None,
        progress: bool = False,
        **cond: Tensor,
    ) -> LogProb:
        """Log-likelihoods in the data's units: densities of continuous data, a lower bound for discrete ones.

        Discrete data are dequantised by uniform noise of their seed, and log P(k) >= E_u log p(k + u); one draw of u
        has that expectation. Their result has bits/dim. See `scorefield.log_prob` for the other arguments.
        """
        keys = torch.arange(len(x)) if seeds is None else as_seeds(seeds)
        z = self._to_model(x, keys)
        result = likelihood.log_prob(
            self._given(label, len(x), cond),
            z,
            seeds=keys,
            steps=steps,
            divergence=divergence,
            batch_size=batch_size,
            progress=progress,
        )
        log_det = self.transform.log_det(x).to(z)
        nats = result.nats + log_det
        bits = transforms.bits_per_dim(nats, z[0].numel()) if self.transform.levels is not None else None
        return result._replace(
            nats=nats,
            terms={**result.terms, "transform": log_det},
            probes=result.probes + log_det[:, None],
            bits_per_dim=bits,
        )

    def encode(
        self,
        x: Tensor,
        *,
        label: int | Tensor | None = None,
        seeds: Iterable[int] | Tensor | None = None,
        steps: int = 50,
    ) -> Float[Tensor, "n *event"]:
        """The latent of each sample at time T; discrete data are dequantised by their seed."""
        keys = torch.arange(len(x)) if seeds is None else as_seeds(seeds)
        return likelihood.encode(self._given(label, len(x), {}), self._to_model(x, keys), steps=steps)

    def decode(
        self, latent: Float[Tensor, "n *event"], *, label: int | Tensor | None = None, steps: int = 50
    ) -> Tensor:
        """The sample of each latent."""
        z = likelihood.decode(self._given(label, len(latent), {}), latent, steps=steps)
        return self.transform.inverse(z)

    def score(self, x: Tensor, t: Tensor, *, label: int | Tensor | None = None) -> Tensor:
        """grad log p of the noisy states at time t, in the data's units; discrete data count as real numbers."""
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            z = self.transform.forward(x, torch.zeros_like(x))
            value = self._given(label, len(x), {}).score(z.detach(), t)
            (gradient,) = torch.autograd.grad((z * value).sum() + self.transform.log_det(x).sum(), x)
        return gradient

    def save(self, path: str | Path) -> None:
        """Writes config.json and model.safetensors into a directory, which is made if need be."""
        path = Path(path)
        config = {
            "format": FORMAT,
            "event_shape": list(self.event_shape),
            "classes": self.classes,
            "transform": describe(self.transform),
            "denoiser": describe(self.denoiser),
            "about": self.about,
        }
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
        path.mkdir(parents=True, exist_ok=True)
        write_tensors(path / WEIGHTS, self.denoiser.state_dict())
        write_text(path / CONFIG, text)

    @classmethod
    def load(cls, path: str | Path, *, classes: Iterable[type] = (), device: torch.device | str = "cpu") -> ScoreModel:
        """Reads a directory that `save` wrote, without running anything from it.

        Args:
            path: the directory.
            classes: your own classes, if the model uses any: networks, processes, preconditioners, transforms.
            device: where the model goes.
        """
        path = Path(path)
        config = _read_config(path)
        known = {c.__name__: c for c in (*_own_classes(), *classes)}
        try:
            with networks.seeded(0):  # initial weights, replaced below
                denoiser, transform = build(config["denoiser"], known), build(config["transform"], known)
            event_shape, count = [int(side) for side in config["event_shape"]], int(config["classes"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path / CONFIG}: does not describe a model: {error}") from error
        if not isinstance(denoiser, Denoiser) or not isinstance(transform, Transform):
            raise ValueError(f"{path / CONFIG}: does not describe a denoiser and a transform")
        tensors, _ = read_tensors(path / WEIGHTS)
        check_tensors(tensors, denoiser.state_dict(), str(path / WEIGHTS))
        denoiser.load_state_dict(tensors)
        return cls(denoiser.to(device).eval(), event_shape, transform, count, config.get("about"))

    def _given(self, label: int | Tensor | None, n: int, cond: Mapping[str, Tensor]) -> Denoiser:
        """The denoiser under its conditions, each checked."""
        bound: dict[str, Tensor] = dict(cond)
        if label is not None:
            bound["label"] = value = torch.as_tensor(label)
            if value.is_floating_point() or int(value.min()) < 0 or int(value.max()) >= self.classes:
                wanted = (
                    f"integers from 0 to {self.classes - 1}" if self.classes else "no label: the model has no classes"
                )
                raise ValueError(f"wanted {wanted}; got {sorted(set(value.reshape(-1).tolist()))[:8]}")
        for name, value in bound.items():
            if value.ndim and len(value) != n:
                raise ValueError(f"wanted one row of {name!r} for each of {n} samples, or a scalar; got {len(value)}")
        return self.denoiser.given(**bound) if bound else self.denoiser

    def _to_model(self, x: Tensor, keys: Tensor) -> Tensor:
        if x.shape[1:] != self.event_shape:
            raise ValueError(f"this model is of events of shape {self.event_shape}; got {tuple(x.shape[1:])}")
        if len(x) == 0 or len(keys) != len(x):
            raise ValueError(
                f"wanted at least one sample and one seed for each; got {len(x)} samples, {len(keys)} seeds"
            )
        levels, place = self.transform.levels, next(self.denoiser.parameters(), torch.empty(0)).device
        x = x.to(place)
        if levels is None:
            return self.transform.forward(x)
        if x.is_floating_point() or int(x.min()) < 0 or int(x.max()) >= levels:
            raise ValueError(
                f"this model is of integers from 0 to {levels - 1}; got {x.dtype}, {float(x.min())} to {float(x.max())}"
            )
        u = Noise.per_sample(keys, place).child(255).uniform(x.new_empty(x.shape, dtype=torch.float32))
        return self.transform.forward(x, u)


def _read_config(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"{path}: not a trained model, since it has no {CONFIG}: give the directory that was trained into"
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{file}: damaged ({error}): use another copy of the model") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
        raise ValueError(f"{file}: wanted a model of format {FORMAT}; this version of scorefield cannot read another")
    return config  # pyright: ignore[reportUnknownVariableType]


def _own_classes() -> list[type]:
    """What a saved model may be made of: the public classes of the modules that define parts of models."""
    modules: tuple[ModuleType, ...] = (processes, score, networks, transforms)
    return [
        value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type)
        and not name.startswith("_")
        and value.__module__.startswith("scorefield.")
        and (is_dataclass(value) or issubclass(value, nn.Module))
    ]
