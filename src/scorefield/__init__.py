"""Score-based generative modelling through stochastic differential equations."""

from scorefield import data as data
from scorefield import grids as grids
from scorefield import nn as nn
from scorefield import objectives as objectives
from scorefield import solvers as solvers
from scorefield._noise import Noise as Noise
from scorefield.analytic import GaussianMixture as GaussianMixture
from scorefield.analytic import gaussian as gaussian
from scorefield.likelihood import ExactTrace as ExactTrace
from scorefield.likelihood import Hutchinson as Hutchinson
from scorefield.likelihood import LogProb as LogProb
from scorefield.likelihood import decode as decode
from scorefield.likelihood import encode as encode
from scorefield.likelihood import log_prob as log_prob
from scorefield.linear import LinearSDE as LinearSDE
from scorefield.model import ScoreModel as ScoreModel
from scorefield.processes import EDM as EDM
from scorefield.processes import VE as VE
from scorefield.processes import VP as VP
from scorefield.processes import Cosine as Cosine
from scorefield.processes import Power as Power
from scorefield.processes import Rectified as Rectified
from scorefield.processes import SubVP as SubVP
from scorefield.sampling import default as default
from scorefield.sampling import integrate as integrate
from scorefield.sampling import network_calls as network_calls
from scorefield.sampling import sample as sample
from scorefield.score import Denoiser as Denoiser
from scorefield.score import EDMPrecond as EDMPrecond
from scorefield.score import NoisePrecond as NoisePrecond
from scorefield.score import Preconditioned as Preconditioned
from scorefield.score import Score as Score
from scorefield.score import ScorePrecond as ScorePrecond
from scorefield.score import VelocityPrecond as VelocityPrecond
from scorefield.sde import SDE as SDE
from scorefield.sde import GaussianSDE as GaussianSDE
from scorefield.sde import ItoSDE as ItoSDE
from scorefield.sde import Knot as Knot
from scorefield.sde import NormalPrior as NormalPrior
from scorefield.train import EMA as EMA
from scorefield.train import Batches as Batches
from scorefield.train import Optimisation as Optimisation
from scorefield.train import TrainState as TrainState
from scorefield.train import train as train

__version__ = "0.1.0"
