"""Our Inception network against torch-fidelity's, with made-up weights: names, tensors, and outputs for several sizes.

    python benchmarks/inception_reference.py

needs torch-fidelity beside this package (`make .venv-peers/ready`); nothing is downloaded. What it prints last are the
numbers that tests/metrics/test_features.py holds our network to without torch-fidelity.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from scorefield.metrics import InceptionV3
from scorefield.nn import seeded

SIZES = ((28, 28), (32, 32), (299, 299), (400, 333))


def main() -> None:
    from peers import hide_optional_imports  # beside this file

    hide_optional_imports()
    theirs = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    with seeded(0):
        ours = made_up(InceptionV3())
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "made_up.pth"
        torch.save(ours.state_dict(), weights)
        reference = theirs("made up", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights))
    state = ours.state_dict()
    print(f"{len(state)} tensors, {sum(p.numel() for p in ours.parameters()):,} parameters")
    print(f"the same names: {set(state) == set(reference.state_dict())}")
    for size in SIZES:
        x = picture(*size)
        with torch.no_grad():
            wanted = reference(x)
            errors = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours(x.float()), wanted, strict=True)]
        print(f"{size}: features differ by {errors[0]:.1e} of the largest, logits by {errors[1]:.1e}")
        if size == (32, 32):
            print("of 32 x 32, the first features and logits:", *(v[0, :4].tolist() for v in wanted))


def made_up(net: nn.Module) -> nn.Module:
    """Weights from a formula, as large as trained ones, so that all layers count."""
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        spread = _scattered(value.numel()).reshape(value.shape) - 0.5
        if value.ndim > 1:
            value.copy_(spread * (24 / value[0].numel()) ** 0.5)  # of variance 2 / inputs
        elif name.endswith(("bn.weight", "running_var")):
            value.copy_(1 + 0.5 * spread)
        else:
            value.copy_(0.2 * spread)
    return net


def picture(height: int, width: int) -> Tensor:
    """Pixels from a formula."""
    return (256 * _scattered(3 * height * width)).reshape(1, 3, height, width).to(torch.uint8)


def _scattered(count: int) -> Tensor:
    """Numbers in [0, 1) that look random and are the same everywhere, to 1e-11."""
    return torch.sin(12.9898 * torch.arange(1, count + 1, dtype=torch.float64)).mul(43758.5453).remainder(1)


if __name__ == "__main__":
    main()
