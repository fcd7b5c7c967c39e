"""What carries a recipe out: the ELBO, its gradient, log weights."""
