"""The error of a model for which no closed-form posterior was found."""


class NoClosedForm(ValueError):
    """No closed-form posterior was found. The message names the site, the nearest family and its error in nats.

    A closed form is checked before it is returned: log p(data, z) - log q(z) must be the same number at points far
    apart. `credo.exact` never returns an approximation; use `credo.reference` (NUTS) or `credo.fit` instead.

    >>> import credo, pyro, torch
    >>> import pyro.distributions as dist
    >>> def model(x):
    ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...     pyro.sample("x", dist.Laplace(z, 1.0), obs=x)
    >>> try:
    ...     credo.exact(model, torch.tensor(0.5))
    ... except credo.NoClosedForm as error:
    ...     print(str(error).split(":")[0])
    site 'z'
    """
