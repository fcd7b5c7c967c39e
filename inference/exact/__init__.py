"""Closed-form posteriors, found and checked.

Files, in the order in which to read them:

    closed_form.py     the call `credo.exact` and its result
    no_closed_form.py  the error of a model without closed form
    precision.py       a model in double precision
    inspection.py      the latent sites, and what rules out a closed form
    coordinates.py     the continuous latents as one unconstrained vector
    log_joint.py       log p(data, z) as a function of z
    problem.py         a log joint with its coordinates and draws of the prior
    derivatives.py     gradients and Hessian-vector products of a log density
    blocks.py          groups of latents that depend on each other
    solve.py           a candidate for each block: a family with its parameters
    block_posterior.py the types of a candidate and of the posterior of a block
    families.py        families with two natural parameters
    gaussian.py        jointly Gaussian latents
    normal_gamma.py    normal-gamma and normal-inverse-gamma
    finite.py          finite latents alone
    mixture.py         a few finite latents with continuous latents; all latents as one multivariate normal
    search.py          the posterior and log p(data), sought, checked, and put together over finite latents
    points.py          the points at which a result is checked
    proof.py           the check: log p(data, z) - log q(z) is constant
    refusal.py         the site that has no closed form
    marginals.py       the marginals of each site
    predict.py         posterior predictive draws
    saved.py           a posterior as data for a file, and back

Other rooms call: `exact`, `Exact`, `NoClosedForm`.
"""
