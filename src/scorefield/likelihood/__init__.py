"""Likelihoods and encodings: by the probability-flow ODE, and a bound by the denoising error."""

from scorefield.likelihood.bound import elbo as elbo
from scorefield.likelihood.decoder import Cells as Cells
from scorefield.likelihood.dequantisation import Dequantisation as Dequantisation
from scorefield.likelihood.dequantisation import TruncatedNormal as TruncatedNormal
from scorefield.likelihood.dequantisation import Uniform as Uniform
from scorefield.likelihood.dequantisation import importance_weighted as importance_weighted
from scorefield.likelihood.divergence import Directions as Directions
from scorefield.likelihood.divergence import Divergence as Divergence
from scorefield.likelihood.divergence import ExactTrace as ExactTrace
from scorefield.likelihood.divergence import Hutchinson as Hutchinson
from scorefield.likelihood.divergence import HutchPlusPlus as HutchPlusPlus
from scorefield.likelihood.encoding import decode as decode
from scorefield.likelihood.encoding import encode as encode
from scorefield.likelihood.mismatch import prior_mismatch as prior_mismatch
from scorefield.likelihood.ode import log_prob as log_prob
from scorefield.likelihood.profile import NoiseProfile as NoiseProfile
from scorefield.likelihood.profile import noise_profile as noise_profile
from scorefield.likelihood.record import LogProb as LogProb
from scorefield.likelihood.record import averaged as averaged
