"""A trained model: one object, one directory."""

from scorefield.model.score_model import ScoreModel as ScoreModel
