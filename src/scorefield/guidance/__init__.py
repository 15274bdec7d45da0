"""Guidance: a denoiser made of others, which every solver takes in the place of a denoiser."""

from scorefield.guidance.autoguidance import Autoguidance as Autoguidance
from scorefield.guidance.classifier import Classifier as Classifier
from scorefield.guidance.classifier import ClassPosterior as ClassPosterior
from scorefield.guidance.classifier_free import ClassifierFree as ClassifierFree
from scorefield.guidance.extrapolation import Extrapolation as Extrapolation
