"""The Inception network of 2015 that the Frechet inception distance is defined by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from scorefield.metrics.features import FeatureExtractor, Features

SIDE = 299
PUBLISHED = "6726825d"  # SHA-256 of weights-inception-2015-12-05-6726825d.pth begins so, as its name says

Pool = Callable[[Tensor], Tensor]
Kernel = int | tuple[int, int]


class Layer(NamedTuple):
    """A convolution: what follows its branch in the published name, channels, kernel and stride."""

    suffix: str
    channels: int
    kernel: Kernel
    stride: int = 1


Branch = Sequence[Layer | list[Layer] | Pool]


class InceptionV3(nn.Module):
    """The graph of TensorFlow's classify_image_graph_def.pb, with the names of the published PyTorch weights.

    (Szegedy et al. 2016, "Rethinking the Inception architecture".) 566 tensors, 23.85 million parameters. It is not
    torchvision's: averages leave padding out, the last block pools by the maximum, the classes are 1008, and images are
    resized as by TensorFlow 1, whose bilinear interpolation lets the corners drift and does not smooth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, padding=(0, 0))
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, padding=(0, 0))
        self.Mixed_5b = _Mixed(192, _grid_35(32))
        self.Mixed_5c = _Mixed(256, _grid_35(64))
        self.Mixed_5d = _Mixed(288, _grid_35(64))
        self.Mixed_6a = _Mixed(288, _35_TO_17)
        self.Mixed_6b = _Mixed(768, _grid_17(128))
        self.Mixed_6c = _Mixed(768, _grid_17(160))
        self.Mixed_6d = _Mixed(768, _grid_17(160))
        self.Mixed_6e = _Mixed(768, _grid_17(192))
        self.Mixed_7a = _Mixed(768, _17_TO_8)
        self.Mixed_7b = _Mixed(1280, _grid_8(_average))
        self.Mixed_7c = _Mixed(2048, _grid_8(_largest))
        self.fc = nn.Linear(2048, 1008)
        self.eval()

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 2048"], Float[Tensor, "b 1008"]]:
        """Pooled features, and logits without the last layer's bias, as Inception scores are computed of them.

        Args:
            x: RGB from 0 to 255.
        """
        h = (resized(x, SIDE) - 128) / 128
        h = max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(h))), 3, 2)
        h = max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(h)), 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                h = block(h)
        pooled = h.mean((2, 3))
        return pooled, pooled @ self.fc.weight.mT


class Inception(FeatureExtractor):
    """Features and logits of the published weights: with them alone a Frechet distance is the FID.

    Args:
        weights: the published file weights-inception-2015-12-05-6726825d.pth.
        levels: values of a pixel, from black 0 to white levels - 1.

    Raises:
        ValueError: the file is not the published one.
    """

    name = "inception"

    def __init__(self, weights: str | Path, levels: int = 256) -> None:
        super().__init__()
        if not Path(weights).is_file():
            raise FileNotFoundError(f"{weights}: no such file: get weights-inception-2015-12-05-6726825d.pth")
        with Path(weights).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(PUBLISHED):
            raise ValueError(
                f"{weights}: its SHA-256 begins {digest[:8]}, that of the published weights {PUBLISHED}: what is "
                "computed with others is no FID; use another extractor, or get the published file"
            )
        with torch.device("meta"):
            self.network = InceptionV3()
        self.network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"), assign=True)
        self.requires_grad_(False)
        self.scale = 255 / (levels - 1)

    def forward(self, x: Shaped[Tensor, "b c h w"]) -> Features:
        """Of grey or RGB pictures."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"Inception sees pictures (b, 1 or 3, height, width); got {tuple(x.shape)}")
        return Features(*self.network(x.float().expand(-1, 3, -1, -1) * self.scale))

    def named(self, metric: str) -> str:
        """Its results carry the names of the literature: FID, KID."""
        return {"FD": "FID"}.get(metric, metric)


def resized(x: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c s s"]:
    """Bilinear interpolation at the places i h / side, as by TensorFlow 1."""
    rows, columns = (_interpolation(size, side).to(x) for size in x.shape[2:])
    return rows @ x @ columns.mT


def _interpolation(size: int, side: int) -> Tensor:
    at = torch.arange(side, dtype=torch.float32) * torch.tensor(size / side, dtype=torch.float32)
    low = at.long().clamp_max(size - 1)
    part = (at - low)[:, None]
    one = torch.eye(size)
    return (1 - part) * one[low] + part * one[(low + 1).clamp_max(size - 1)]


class _Conv(nn.Module):
    """Convolution, normalisation and ReLU."""

    def __init__(
        self, inp: int, out: int, kernel: Kernel, stride: int = 1, padding: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        same = ((sides[0] - 1) // 2, (sides[1] - 1) // 2) if stride == 1 else (0, 0)
        self.conv = nn.Conv2d(inp, out, sides, stride, same if padding is None else padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


class _Mixed(nn.Module):
    """Branches side by side, joined by their channels.

    Args:
        inp: channels of the input.
        branches: by name, what stands one after another; the layers of a list see the same and are joined.
    """

    def __init__(self, inp: int, branches: Mapping[str, Branch]) -> None:
        super().__init__()
        self.branches = branches
        for name, branch in branches.items():
            width = inp
            for step in branch:
                if layers := _layers(step):
                    for layer in layers:
                        self.add_module(name + layer.suffix, _Conv(width, *layer[1:]))
                    width = sum(layer.channels for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        ends: list[Tensor] = []
        for name, branch in self.branches.items():
            h = x
            for step in branch:
                if isinstance(step, Layer | list):
                    h = torch.cat([self.get_submodule(name + layer.suffix)(h) for layer in _layers(step)], 1)
                else:
                    h = step(h)
            ends.append(h)
        return torch.cat(ends, 1)


def _layers(step: Layer | list[Layer] | Pool) -> list[Layer]:
    return [step] if isinstance(step, Layer) else step if isinstance(step, list) else []


def _average(x: Tensor) -> Tensor:
    return avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _largest(x: Tensor) -> Tensor:
    return max_pool2d(x, 3, 1, 1)


def _halved(x: Tensor) -> Tensor:
    return max_pool2d(x, 3, 2)


def _grid_35(pooled: int) -> dict[str, Branch]:
    return {
        "branch1x1": [Layer("", 64, 1)],
        "branch5x5": [Layer("_1", 48, 1), Layer("_2", 64, 5)],
        "branch3x3dbl": [Layer("_1", 64, 1), Layer("_2", 96, 3), Layer("_3", 96, 3)],
        "branch_pool": [_average, Layer("", pooled, 1)],
    }


_35_TO_17: dict[str, Branch] = {
    "branch3x3": [Layer("", 384, 3, 2)],
    "branch3x3dbl": [Layer("_1", 64, 1), Layer("_2", 96, 3), Layer("_3", 96, 3, 2)],
    "branch_pool": [_halved],
}


def _grid_17(c: int) -> dict[str, Branch]:
    wide, high = (1, 7), (7, 1)
    return {
        "branch1x1": [Layer("", 192, 1)],
        "branch7x7": [Layer("_1", c, 1), Layer("_2", c, wide), Layer("_3", 192, high)],
        "branch7x7dbl": [
            Layer("_1", c, 1),
            Layer("_2", c, high),
            Layer("_3", c, wide),
            Layer("_4", c, high),
            Layer("_5", 192, wide),
        ],
        "branch_pool": [_average, Layer("", 192, 1)],
    }


_17_TO_8: dict[str, Branch] = {
    "branch3x3": [Layer("_1", 192, 1), Layer("_2", 320, 3, 2)],
    "branch7x7x3": [Layer("_1", 192, 1), Layer("_2", 192, (1, 7)), Layer("_3", 192, (7, 1)), Layer("_4", 192, 3, 2)],
    "branch_pool": [_halved],
}


def _grid_8(pool: Pool) -> dict[str, Branch]:
    wide, high = (1, 3), (3, 1)
    return {
        "branch1x1": [Layer("", 320, 1)],
        "branch3x3": [Layer("_1", 384, 1), [Layer("_2a", 384, wide), Layer("_2b", 384, high)]],
        "branch3x3dbl": [Layer("_1", 448, 1), Layer("_2", 384, 3), [Layer("_3a", 384, wide), Layer("_3b", 384, high)]],
        "branch_pool": [pool, Layer("", 192, 1)],
    }
