"""Networks of one's own, made Bayesian: their weights as latents of any model, and a guide over them.

    f = credo.nn.bayesian(net)            # in the model: f(x) draws all weights and returns net(x)
    guide = credo.nn.mean_field(net)      # an independent normal for each weight

    fit = credo.fit(model, guide, x, y)
    fit.predict(100, x_new)               # averages over networks
    fit.networks(net, 10)                 # ten networks with weights drawn from the posterior
    fit.trained(net)                      # the network with their means

`draw_weights` is the first half of `bayesian`, for models that call a network more than once; `inputs_of` is the fan-in
of a parameter, for priors of one's own, and `scale_mixture` is a prior of two scales. The pairs `bnn_classifier` and
`bnn_regression` are whole models.
"""

from credo.guides._nets import mean_field
from credo.models._bayesian import bayesian, draw_weights, inputs_of
from credo.models._priors import scale_mixture

__all__ = ["bayesian", "draw_weights", "inputs_of", "mean_field", "scale_mixture"]
