"""Stochastic variational inference: prepare, step, loop, stop, result."""
