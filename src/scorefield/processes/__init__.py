"""Forward processes: the contracts, those of the literature, and any from its two rates or functions."""

from scorefield.processes.cosine import Cosine as Cosine
from scorefield.processes.edm import EDM as EDM
from scorefield.processes.gaussian import GaussianSDE as GaussianSDE
from scorefield.processes.ito import ItoSDE as ItoSDE
from scorefield.processes.linear import LinearSDE as LinearSDE
from scorefield.processes.power import Power as Power
from scorefield.processes.rectified import Rectified as Rectified
from scorefield.processes.sde import DATA as DATA
from scorefield.processes.sde import SDE as SDE
from scorefield.processes.sde import Knot as Knot
from scorefield.processes.sde import NormalPrior as NormalPrior
from scorefield.processes.sde import Prior as Prior
from scorefield.processes.sde import as_point as as_point
from scorefield.processes.sde import check_size as check_size
from scorefield.processes.slope import diffusion_and_slope as diffusion_and_slope
from scorefield.processes.stationary import StationaryPrior as StationaryPrior
from scorefield.processes.ve import VE as VE
from scorefield.processes.vp import VP as VP
from scorefield.processes.vp import SubVP as SubVP
