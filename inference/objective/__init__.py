"""What carries a recipe out: the ELBO, its gradient, log weights.

Files, in the order in which to read them:

    elbo.py       the loss whose gradient is the estimator's
    gradients.py  the gradient of a loss in all parameters

Other rooms call: `differentiable_loss`, `log_weight`, `gradients`.
"""
