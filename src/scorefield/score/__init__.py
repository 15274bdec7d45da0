"""Models of the noisy data: `Score` is what a solver needs at least, `Denoiser` what networks and guidance build on."""

from scorefield.score.denoiser import Conditioned as Conditioned
from scorefield.score.denoiser import ConditionedDensity as ConditionedDensity
from scorefield.score.denoiser import ConditionedScore as ConditionedScore
from scorefield.score.denoiser import Denoiser as Denoiser
from scorefield.score.denoiser import FromScore as FromScore
from scorefield.score.denoiser import ScoreModule as ScoreModule
from scorefield.score.denoiser import as_denoiser as as_denoiser
from scorefield.score.energy import Energy as Energy
from scorefield.score.energy import log_density_ratio as log_density_ratio
from scorefield.score.networks import PlainScore as PlainScore
from scorefield.score.networks import ScoreNetwork as ScoreNetwork
from scorefield.score.noisy_classifier import NoisyClassifier as NoisyClassifier
from scorefield.score.preconditioned import Coefs as Coefs
from scorefield.score.preconditioned import EDMPrecond as EDMPrecond
from scorefield.score.preconditioned import NoisePrecond as NoisePrecond
from scorefield.score.preconditioned import Precond as Precond
from scorefield.score.preconditioned import Preconditioned as Preconditioned
from scorefield.score.preconditioned import ScorePrecond as ScorePrecond
from scorefield.score.preconditioned import TimePrecond as TimePrecond
from scorefield.score.preconditioned import VelocityPrecond as VelocityPrecond
from scorefield.score.preconditioned import noise_level as noise_level
from scorefield.score.protocols import LogDensity as LogDensity
from scorefield.score.protocols import Score as Score
from scorefield.score.protocols import evaluating as evaluating
from scorefield.score.protocols import placement as placement
