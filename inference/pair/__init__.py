"""A model and a guide on data: run, batched, scored, finite latents summed out."""
