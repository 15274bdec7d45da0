"""A trained model: one object, one directory."""

from scorefield.model.classifier_model import ClassifierModel as ClassifierModel
from scorefield.model.measured import Measured as Measured
from scorefield.model.score_model import ScoreModel as ScoreModel
