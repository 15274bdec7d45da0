"""Posterior samplers that own a loop over the prior's sampler: particles, Gibbs sampling, annealing, optimisation."""

from scorefield.posterior.daps import DAPS as DAPS
from scorefield.posterior.fk_steering import FKSteering as FKSteering
from scorefield.posterior.red_diff import REDdiff as REDdiff
from scorefield.posterior.sampler import PosteriorSampler as PosteriorSampler
from scorefield.posterior.split_gibbs import SplitGibbs as SplitGibbs
from scorefield.posterior.twisted_smc import TwistedSMC as TwistedSMC
