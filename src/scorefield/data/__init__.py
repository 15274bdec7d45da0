"""Data sets and the transforms between their units and the model's space."""

from scorefield.data.arrays import load_arrays as load_arrays
from scorefield.data.audio import Audio as Audio
from scorefield.data.dataset import ArrayDataset as ArrayDataset
from scorefield.data.dataset import Dataset as Dataset
from scorefield.data.dataset import Rows as Rows
from scorefield.data.dataset import Subset as Subset
from scorefield.data.dataset import split as split
from scorefield.data.images import Alpha as Alpha
from scorefield.data.images import Colour as Colour
from scorefield.data.images import Fit as Fit
from scorefield.data.images import Images as Images
from scorefield.data.members import Broken as Broken
from scorefield.data.noise_scales import NoiseScales as NoiseScales
from scorefield.data.noise_scales import noise_scales as noise_scales
from scorefield.data.read import read as read
from scorefield.data.stored import Stored as Stored
from scorefield.data.tables import Table as Table
from scorefield.data.toys import checkerboard as checkerboard
from scorefield.data.toys import digits as digits
from scorefield.data.toys import mixture as mixture
from scorefield.data.toys import rings as rings
from scorefield.data.toys import two_moons as two_moons
from scorefield.data.transforms import Affine as Affine
from scorefield.data.transforms import Transform as Transform
from scorefield.data.transforms import transformed_spectrum as transformed_spectrum
from scorefield.data.transforms import transformed_std as transformed_std
