"""Which estimator each latent site gets, why, and the race that measures it."""
