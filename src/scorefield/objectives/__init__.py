"""Training objectives: (model, x0, *, noise, **cond) -> one loss for each sample."""

from scorefield.objectives.adaptive import AdaptiveLogSNR as AdaptiveLogSNR
from scorefield.objectives.adaptive import adaptive_densities as adaptive_densities
from scorefield.objectives.conditioning import LabelDropout as LabelDropout
from scorefield.objectives.denoising import DenoisingScoreMatching as DenoisingScoreMatching
from scorefield.objectives.fisher import fisher_divergence as fisher_divergence
from scorefield.objectives.fisher import kl_bound as kl_bound
from scorefield.objectives.objective import Objective as Objective
from scorefield.objectives.path_target import PathTarget as PathTarget
from scorefield.objectives.score_matching import ImplicitScoreMatching as ImplicitScoreMatching
from scorefield.objectives.score_matching import SlicedScoreMatching as SlicedScoreMatching
from scorefield.objectives.states import Clean as Clean
from scorefield.objectives.states import Drawn as Drawn
from scorefield.objectives.states import Perturbed as Perturbed
from scorefield.objectives.states import Simulated as Simulated
from scorefield.objectives.states import States as States
from scorefield.objectives.time_densities import Levels as Levels
from scorefield.objectives.time_densities import LogNormalSigma as LogNormalSigma
from scorefield.objectives.time_densities import OneLevel as OneLevel
from scorefield.objectives.time_densities import TimeDensity as TimeDensity
from scorefield.objectives.time_densities import UniformLogSNR as UniformLogSNR
from scorefield.objectives.time_densities import UniformTime as UniformTime
from scorefield.objectives.weights import EDMWeight as EDMWeight
from scorefield.objectives.weights import LikelihoodWeight as LikelihoodWeight
from scorefield.objectives.weights import MinSNRWeight as MinSNRWeight
from scorefield.objectives.weights import SimpleWeight as SimpleWeight
from scorefield.objectives.weights import Weight as Weight
