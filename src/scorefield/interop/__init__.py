"""Checkpoints of other projects, read without running anything from them, and written for them."""

from scorefield.interop.score_sde import load_score_sde as load_score_sde
