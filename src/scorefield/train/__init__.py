"""Training: a state, batches, an objective, and a loop that the caller drives."""

from scorefield.train.batches import Batch as Batch
from scorefield.train.batches import Batches as Batches
from scorefield.train.checkpoint import Checkpoints as Checkpoints
from scorefield.train.ema import EMA as EMA
from scorefield.train.ema import Average as Average
from scorefield.train.ema import PowerEMA as PowerEMA
from scorefield.train.ema import floating as floating
from scorefield.train.fit import fit as fit
from scorefield.train.loop import StepInfo as StepInfo
from scorefield.train.loop import train as train
from scorefield.train.loop import validation_loss as validation_loss
from scorefield.train.optimisation import Optimisation as Optimisation
from scorefield.train.snapshots import Reconstruction as Reconstruction
from scorefield.train.snapshots import Snapshots as Snapshots
from scorefield.train.state import TrainState as TrainState
