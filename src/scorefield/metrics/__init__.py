"""Distances between sets of samples."""

from scorefield.metrics.sliced import sliced_wasserstein as sliced_wasserstein
