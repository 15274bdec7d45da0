"""Checkpoints of other projects, read without running anything from them, and written for them."""

from scorefield.interop.diffusers import load_diffusers as load_diffusers
from scorefield.interop.diffusers import save_diffusers as save_diffusers
from scorefield.interop.edm import load_edm as load_edm
from scorefield.interop.ncsn import load_ncsn as load_ncsn
from scorefield.interop.ncsn import load_ncsnv2 as load_ncsnv2
from scorefield.interop.score_sde import load_score_sde as load_score_sde
