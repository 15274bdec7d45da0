"""Our Inception network against torch-fidelity's, with random weights: names, tensors, and outputs for several sizes.

    python benchmarks/inception_reference.py

needs torch-fidelity beside this package (`make .venv-peers/ready`); nothing is downloaded.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

import torch
from peers import hide_optional_imports
from torch import nn

from scorefield.metrics import InceptionV3
from scorefield.nn import seeded

SIZES = ((28, 28), (32, 32), (299, 299), (400, 333))


def main() -> None:
    hide_optional_imports()
    theirs = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    with seeded(0):
        ours = InceptionV3()
        for module in ours.modules():  # as large as trained ones, so that all layers count
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    nn.init.uniform_(values, 0.5, 1.5)
                for values in (module.bias, module.running_mean):
                    nn.init.normal_(values, std=0.1)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pth"
        torch.save(ours.state_dict(), weights)
        reference = theirs("random", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights))
    state = ours.state_dict()
    print(f"{len(state)} tensors, {sum(p.numel() for p in ours.parameters()):,} parameters")
    print(f"the same names: {set(state) == set(reference.state_dict())}")
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        x = torch.randint(256, (2, 3, *size), dtype=torch.uint8, generator=generator)
        with torch.no_grad():
            errors = [
                float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours(x.float()), reference(x), strict=True)
            ]
        print(f"{size}: features differ by {errors[0]:.1e} of the largest, logits by {errors[1]:.1e}")


if __name__ == "__main__":
    main()
