"""Numbers that compare sets of samples."""

from scorefield.metrics.calibration import coverage as coverage
from scorefield.metrics.calibration import rank_levels as rank_levels
from scorefield.metrics.calibration import tarp_levels as tarp_levels
from scorefield.metrics.calibration import uniformity as uniformity
from scorefield.metrics.psnr import psnr as psnr
from scorefield.metrics.sliced import sliced_wasserstein as sliced_wasserstein
