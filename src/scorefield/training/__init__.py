"""Training: a state, batches, an objective, and a loop that the caller drives."""

from scorefield.training.batches import Batch as Batch
from scorefield.training.batches import Batches as Batches
from scorefield.training.checkpoint import Checkpoints as Checkpoints
from scorefield.training.ema import EMA as EMA
from scorefield.training.ema import Average as Average
from scorefield.training.ema import PowerEMA as PowerEMA
from scorefield.training.ema import floating as floating
from scorefield.training.fit import fit as fit
from scorefield.training.loop import StepInfo as StepInfo
from scorefield.training.loop import train as train
from scorefield.training.loop import validation_loss as validation_loss
from scorefield.training.optimisation import Optimisation as Optimisation
from scorefield.training.snapshots import Reconstruction as Reconstruction
from scorefield.training.snapshots import Snapshots as Snapshots
from scorefield.training.state import TrainState as TrainState
