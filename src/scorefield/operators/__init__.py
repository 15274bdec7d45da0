"""Measurement operators and the noise of measurements."""

from scorefield.operators.noise import Gaussian as Gaussian
from scorefield.operators.noise import MeasurementNoise as MeasurementNoise
from scorefield.operators.noise import Noiseless as Noiseless
from scorefield.operators.noise import Poisson as Poisson
from scorefield.operators.operator import Linear as Linear
from scorefield.operators.operator import LinearOperator as LinearOperator
from scorefield.operators.operator import Operator as Operator
from scorefield.operators.svd import SVD as SVD
