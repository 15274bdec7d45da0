"""Features of a small classifier of the data's own labels: for data that no published network knows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from scorefield._files import check_tensors, read_tensors, write_tensors
from scorefield.data import Dataset, Subset
from scorefield.data.dataset import choice, some_rows
from scorefield.metrics import FeatureExtractor, Features, extract
from scorefield.nn import seeded

WIDTH = 128  # number of features
BATCH = 128
FITTED = 1_000_000  # numbers from which mean and standard deviation are taken


class LabelFeatures(FeatureExtractor):
    """The last hidden layer of a classifier, 128 features, and its logits.

    Images and signals go through three convolutions of 32, 64 and 128 channels, of which the second and the third halve
    the resolution, and a mean over space; other events through two layers of 256 and 128. Each channel, or number of a
    vector, is first brought to mean 0 and standard deviation 1.

    Args:
        event_shape: of the data.
        classes: number of them, at least 2.
        accuracy: share of held-out data whose class it finds, once it is trained.
        data: digest of the data that it is trained on.
        fitted: number of rows of these data that it is fitted on.

    Attributes:
        rows: which these are: comparisons leave them out.
    """

    name = "classifier"

    shift: Tensor
    scale: Tensor
    rows: Tensor

    def __init__(
        self, event_shape: Sequence[int], classes: int, accuracy: float | None = None, data: str = "", fitted: int = 0
    ) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"features of labels need data with at least 2 classes; got {classes}: use other features")
        self.event_shape, self.classes, self.accuracy = tuple(event_shape), classes, accuracy
        self.data, self.fitted = data, fitted
        self.register_buffer("rows", torch.zeros(fitted, dtype=torch.int64))
        parts = (*event_shape[:1], *(1,) * (len(event_shape) - 1))
        self.register_buffer("shift", torch.zeros(parts))
        self.register_buffer("scale", torch.ones(parts))
        if len(event_shape) in (2, 3) and min(event_shape[1:]) >= 4:
            conv = {2: nn.Conv1d, 3: nn.Conv2d}[len(event_shape)]
            layers: list[nn.Module] = []
            for inp, out, stride in ((event_shape[0], 32, 1), (32, 64, 2), (64, WIDTH, 2)):
                layers += [conv(inp, out, 3, stride, 1), nn.GroupNorm(8, out), nn.ReLU()]
            self.body = nn.Sequential(*layers)
        else:
            self.body = nn.Sequential(
                *(nn.Flatten(), nn.Linear(math.prod(event_shape), 256), nn.ReLU()),
                *(nn.Linear(256, WIDTH), nn.ReLU()),
            )
        self.out = nn.Linear(WIDTH, classes)

    def forward(self, x: Shaped[Tensor, "b *event"]) -> Features:
        """Features and logits."""
        if tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(f"this classifier knows events of shape {self.event_shape}; got {tuple(x.shape[1:])}")
        x = (x.float() - self.shift) / self.scale
        h = self.body(x if x.ndim > 1 else x[:, None])
        h = h.flatten(2).mean(2) if h.ndim > 2 else h
        return Features(h, self.out(h))

    @property
    def facts(self) -> dict[str, float]:
        """How good the classifier is."""
        return {} if self.accuracy is None else {"held-out accuracy": self.accuracy}

    def save(self, path: Path) -> None:
        """Writes a safetensors file."""
        about = {name: getattr(self, name) for name in ("event_shape", "classes", "accuracy", "data", "fitted")}
        write_tensors(path, self.state_dict(), about)

    @classmethod
    def load(cls, path: Path) -> LabelFeatures:
        """What `save` wrote.

        Raises:
            ValueError: the file holds something else.
        """
        tensors, about = read_tensors(path)
        try:
            with torch.device("meta"):
                made = cls(**about)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: holds no classifier of `scorefield evaluate` ({error})") from error
        check_tensors(tensors, made.state_dict(), str(path))
        made.load_state_dict(tensors, assign=True)
        return made.eval()


def train_label_features(
    data: Dataset,
    rows: Int64[Tensor, "m"],
    held_out: Dataset,
    *,
    digest: str = "",
    seed: int = 0,
    steps: int = 2000,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> LabelFeatures:
    """Trains the classifier by Adam with a learning rate that falls from 2e-3 to 0 along a cosine.

    Args:
        data: with labels.
        rows: those of the data that it is fitted on.
        held_out: whose accuracy is measured, on at most 10,000 rows.
        digest: of the data, which says where the rows are to be left out.
        seed: of the first weights and the batches of 128.
        steps: of training.
        device: where it is trained.
        progress: show a progress bar.
    """
    train = Subset(data, rows)
    with seeded(seed):
        net = LabelFeatures(data.event_shape, data.classes, data=digest, fitted=len(rows))
    net.rows.copy_(rows.sort().values)
    some = some_rows(train, FITTED).double()
    std, mean = torch.std_mean(some, [0, *range(2, some.ndim)], correction=0)
    net.shift.copy_(mean.reshape(net.shift.shape))
    net.scale.copy_(torch.where(std > 0, std, 1).reshape(net.scale.shape))
    net = net.to(device).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(steps), "features of labels", disable=not progress, leave=False):
        batch = train.rows(torch.randint(len(train), (BATCH,), generator=generator))
        loss = cross_entropy(net(batch.x.to(device)).logits, batch.cond["label"].to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    test = held_out.rows(choice(len(held_out), 10_000))
    net = net.eval().requires_grad_(False)
    logits = extract(net, test.x, BATCH).logits
    assert logits is not None
    net.accuracy = float((logits.argmax(1) == test.cond["label"].cpu()).double().mean())
    return net
