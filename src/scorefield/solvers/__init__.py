"""Solvers of the reverse process: one file a method."""

from scorefield.solvers.euler_maruyama import EulerMaruyama as EulerMaruyama
from scorefield.solvers.exponential import DDIM as DDIM
from scorefield.solvers.exponential import Ancestral as Ancestral
from scorefield.solvers.exponential import DPMSolverPP as DPMSolverPP
from scorefield.solvers.exponential import ExponentialAdams as ExponentialAdams
from scorefield.solvers.exponential import SASolver as SASolver
from scorefield.solvers.exponential import UniPC as UniPC
from scorefield.solvers.heun import Heun as Heun
from scorefield.solvers.langevin import Langevin as Langevin
from scorefield.solvers.predictor_corrector import PredictorCorrector as PredictorCorrector
from scorefield.solvers.runge_kutta import RK4 as RK4
from scorefield.solvers.solver import Solver as Solver
from scorefield.solvers.solver import Step as Step
