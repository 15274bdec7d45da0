"""Training objectives: (model, x0, *, noise, **cond) -> one loss for each sample."""

from scorefield.objectives.conditioning import LabelDropout as LabelDropout
from scorefield.objectives.denoising import DenoisingScoreMatching as DenoisingScoreMatching
from scorefield.objectives.objective import Objective as Objective
from scorefield.objectives.time_densities import LogNormalSigma as LogNormalSigma
from scorefield.objectives.time_densities import TimeDensity as TimeDensity
from scorefield.objectives.time_densities import UniformLogSNR as UniformLogSNR
from scorefield.objectives.time_densities import UniformTime as UniformTime
from scorefield.objectives.weights import EDMWeight as EDMWeight
from scorefield.objectives.weights import LikelihoodWeight as LikelihoodWeight
from scorefield.objectives.weights import MinSNRWeight as MinSNRWeight
from scorefield.objectives.weights import SimpleWeight as SimpleWeight
from scorefield.objectives.weights import Weight as Weight
