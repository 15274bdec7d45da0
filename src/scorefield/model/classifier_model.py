"""A trained classifier of noisy data with everything that is needed to guide a score model by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scorefield._inputs import Shape, as_shape, whole
from scorefield.data import Affine, Transform
from scorefield.guidance import Classifier
from scorefield.model import stored
from scorefield.model.conditions import Condition, Label, numbered
from scorefield.model.score_model import ScoreModel
from scorefield.score import Denoiser, NoisyClassifier


class ClassifierModel:
    """A trained classifier of noisy data, the transform between its space and the data's, and what the data look like.

    Args:
        classifier: of the transformed data.
        event_shape: shape of one sample.
        classes: number of classes.
        transform: between the data's units and the model's space.
        about: plain values to keep with the model: how it was trained, on what.
        class_names: of the classes in the order of their numbers, if they have names.
    """

    def __init__(
        self,
        classifier: NoisyClassifier,
        event_shape: Shape,
        classes: int,
        transform: Transform | None = None,
        about: Mapping[str, Any] | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        self.classifier, self.event_shape = classifier, as_shape(event_shape)
        self.transform, self.classes = transform or Affine(), whole(classes, "classes", 0)
        self.about, self.class_names = dict(about or {}), tuple(class_names)
        stored.check_form(self.event_shape, self.transform, self.classes, self.class_names)

    def guide(self, model: ScoreModel, label: Label, weight: float = 1.0, **cond: Condition | None) -> ScoreModel:
        """The score model guided to a class by this classifier: see `guidance.Classifier`.

        Args:
            model: of the same process, transform and events; its classes, if it has any, are those of the classifier.
            label: one class for all samples, or one for each, (b,).
            weight: 1 is Bayes' rule.
            cond: further conditions of the score model.

        Raises:
            ValueError: the two do not fit together, or there is no such class.
        """
        same = {
            "event shape": (self.event_shape, model.event_shape),
            "transform": (self.transform, model.transform),
            "process": (self.classifier.sde, model.denoiser.sde),
            "classes": (self.classes, model.classes or self.classes),
            "class names": (self.class_names, model.class_names if model.classes else self.class_names),
        }
        for name, (own, other) in same.items():
            if own != other:
                raise ValueError(
                    f"the {name} of the classifier and of the score model differ: {str(own)[:200]} and "
                    f"{str(other)[:200]}: train the classifier for this model, by `scorefield train-classifier`"
                )
        if model.needs_label:
            raise ValueError(
                "this score model was trained only with labels, and a classifier guides one without: train it with "
                "label dropout (--label_dropout 0.1) or without labels (--use_labels false)"
            )
        denoiser = model.given(None, **cond)
        if not isinstance(denoiser, Denoiser):
            raise TypeError(f"guidance needs a denoiser; got {type(denoiser).__name__}")
        numbers = numbered(label, self.classes, self.class_names)
        return model.guided(Classifier(denoiser, self.classifier, numbers, weight))

    def save(self, path: str | Path) -> None:
        """Writes config.json and model.safetensors into a directory, which is made if need be."""
        stored.save(self, stored.CLASSIFIER, Path(path))

    @classmethod
    def load(
        cls, path: str | Path, *, types: Iterable[type] = (), device: torch.device | str = "cpu"
    ) -> ClassifierModel:
        """Reads a directory that `save` wrote, without running anything from it.

        Args:
            path: the directory.
            types: your own classes, if the model is made of any: networks, processes, transforms.
            device: where the model goes.
        """
        return stored.load(cls, stored.CLASSIFIER, Path(path), types, device)
