"""Pictures of samples, losses, score fields and trajectories: arrays in, a Pillow image or a matplotlib figure out."""

from scorefield.plot.curves import error_curves as error_curves
from scorefield.plot.curves import loss_curve as loss_curve
from scorefield.plot.fields import plane as plane
from scorefield.plot.fields import scatter as scatter
from scorefield.plot.fields import score_field as score_field
from scorefield.plot.fields import trajectories as trajectories
from scorefield.plot.images import image_grid as image_grid
from scorefield.plot.images import is_image as is_image
from scorefield.plot.panels import panels as panels
from scorefield.plot.shares import bars as bars
from scorefield.plot.shares import histograms as histograms
