"""Guidance: denoisers and solvers of conditional laws, made of those of the unconditional one."""

from scorefield.guidance.autoguidance import Autoguidance as Autoguidance
from scorefield.guidance.classifier import Classifier as Classifier
from scorefield.guidance.classifier import ClassPosterior as ClassPosterior
from scorefield.guidance.classifier_free import ClassifierFree as ClassifierFree
from scorefield.guidance.ddnm import DDNM as DDNM
from scorefield.guidance.ddnm import DDNMPlus as DDNMPlus
from scorefield.guidance.ddrm import DDRM as DDRM
from scorefield.guidance.diffpir import DiffPIR as DiffPIR
from scorefield.guidance.dps import DPS as DPS
from scorefield.guidance.extrapolation import Extrapolation as Extrapolation
from scorefield.guidance.guided_solver import GuidedSolver as GuidedSolver
from scorefield.guidance.measurement import Label as Label
from scorefield.guidance.measurement import Measurement as Measurement
from scorefield.guidance.moment_matching import MomentMatching as MomentMatching
from scorefield.guidance.pigdm import PiGDM as PiGDM
from scorefield.guidance.posterior_denoiser import PosteriorDenoiser as PosteriorDenoiser
from scorefield.guidance.repaint import RePaint as RePaint
from scorefield.guidance.replacement import Replacement as Replacement
from scorefield.guidance.score_ald import ScoreALD as ScoreALD
