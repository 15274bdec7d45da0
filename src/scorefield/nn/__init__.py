"""Networks of noisy data and a noise level: they know neither the process nor the objective."""

from scorefield.nn.attention import SelfAttention as SelfAttention
from scorefield.nn.classifier import ClassifierNetwork as ClassifierNetwork
from scorefield.nn.classifier import MLPClassifier as MLPClassifier
from scorefield.nn.classifier import UNetClassifier as UNetClassifier
from scorefield.nn.edm2 import EDM2UNet as EDM2UNet
from scorefield.nn.embedding import ConditionEmbedding as ConditionEmbedding
from scorefield.nn.fourier import FourierFeatures as FourierFeatures
from scorefield.nn.mlp import MLP as MLP
from scorefield.nn.ncsn import NCSN as NCSN
from scorefield.nn.ncsnpp import NCSNpp as NCSNpp
from scorefield.nn.ncsnpp_parts import Pyramid as Pyramid
from scorefield.nn.network import Network as Network
from scorefield.nn.potential import Potential as Potential
from scorefield.nn.seeding import seeded as seeded
from scorefield.nn.tutorial import TutorialUNet as TutorialUNet
from scorefield.nn.unet import UNet as UNet
