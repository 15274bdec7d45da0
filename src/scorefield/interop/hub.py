"""Models on the Hugging Face Hub: config.json and model.safetensors as `ScoreModel` writes them, and a card."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

try:
    from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
except ImportError as error:
    raise ImportError("the Hub needs huggingface-hub: pip install 'scorefield[huggingface]'") from error

import torch

from scorefield._files import write_text
from scorefield.model import ScoreModel
from scorefield.model.stored import CONFIG, WEIGHTS

CARD_NAME = "README.md"
CARD = """---
{{{{ card_data }}}}
---

A score model: {process} process, events of shape {shape}, {parameters:,} parameters.

```python
from scorefield.interop.hub import HubModel

model = HubModel.from_pretrained("this repository").model
samples = model.sample(seeds=range(16), steps=20)
```

Made with scorefield {version}.
"""


class HubModel(ModelHubMixin, library_name="scorefield", tags=["score-based-generative-modelling"]):
    """A model that goes to the Hub and comes from it.

        HubModel(model, license="cc-by-4.0").push_to_hub("me/my-model")
        model = HubModel.from_pretrained("me/my-model").model

    `save_pretrained` and `from_pretrained` do the same with a folder. Reading is that of `ScoreModel.load`: strict, and
    without running anything from the files.

    Args:
        model: of any kind.
        license: under which others may use it, by its identifier on the Hub.
    """

    def __init__(self, model: ScoreModel, license: str) -> None:
        self.model, self.license = model, license

    def _save_pretrained(self, save_directory: Path) -> None:
        self.model.save(save_directory)
        image = len(self.model.event_shape) == 3
        data = ModelCardData(
            license=self.license,
            library_name="scorefield",
            pipeline_tag="unconditional-image-generation" if image else None,
            tags=["score-based-generative-modelling"],
        )
        text = CARD.format(
            process=type(self.model.denoiser.sde).__name__,
            shape=self.model.event_shape,
            parameters=sum(p.numel() for p in self.model.denoiser.parameters()),
            version=version("scorefield"),
        )
        write_text(save_directory / CARD_NAME, str(ModelCard.from_template(data, template_str=text)))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        types: Iterable[type] = (),
        device: torch.device | str = "cpu",
        **download: Any,
    ) -> HubModel:
        """The model of a folder or of a repository.

        Args:
            model_id: path or name.
            types: your own classes that the model is made of.
            device: where the model goes.
            download: revision, cache_dir, force_download, local_files_only and token, as of `hf_hub_download`.
        """
        folder = Path(model_id)
        if not folder.is_dir():
            files = [Path(hf_hub_download(model_id, name, **download)) for name in (CONFIG, WEIGHTS)]
            folder = files[0].parent
            with contextlib.suppress(EntryNotFoundError):
                hf_hub_download(model_id, CARD_NAME, **download)
        return cls(ScoreModel.load(folder, types=types, device=device), _license(folder / CARD_NAME))


def _license(card: Path) -> str:
    if not card.is_file():
        return "unknown"
    try:
        return str(ModelCard.load(card).data.to_dict().get("license") or "unknown")
    except Exception as error:  # whatever the parsers of others make of a damaged file
        raise ValueError(f"{card}: not a card with the model's licence: use another copy of it, or none") from error
