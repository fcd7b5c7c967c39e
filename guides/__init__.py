"""Guides, which approximate the posterior of the latents: one a file, with the same name as its model."""
