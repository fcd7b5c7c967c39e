"""credo: Bayesian deep learning on Pyro.

    fit = credo.fit(model, guide, *data)     # minimises -ELBO = E_q[log q(z) - log p(data, z)], in nats
    fit.plan                                 # which gradient estimator each latent site got, and why
    credo.compare(fit)                       # beside the exact posterior

Everything a user needs is in this namespace; see `credo.names()` for the examples that come with it.
"""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version
from pathlib import Path as _Path

if not (_Path(__file__).parent / "models").is_dir():
    # A checkout, not an install: the folders stand beside this one.
    __path__.append(str(_Path(__file__).parents[1]))

from credo import data, metrics, plots
from credo.inference.distributions.gaussian import gaussian_conditional
from credo.inference.evaluation.compare import compare
from credo.inference.evaluation.fit import fit, plan
from credo.inference.exact.closed_form import Exact, exact
from credo.inference.exact.no_closed_form import NoClosedForm
from credo.inference.mcmc.reference import reference
from credo.inference.mcmc.result import Reference, UnreliableReference
from credo.inference.planning.plan import Plan
from credo.inference.posterior.likelihood import log_likelihood
from credo.inference.posterior.predict import predict
from credo.inference.variational.result import Diverged, Fit
from credo.inference.variational.svi import SVI
from credo.pairs import Pair, load, names

try:
    __version__ = _version("credo")
except _PackageNotFoundError:
    __version__ = "0.1.0"

__all__ = [
    "SVI",
    "Diverged",
    "Exact",
    "Fit",
    "NoClosedForm",
    "Pair",
    "Plan",
    "Reference",
    "UnreliableReference",
    "compare",
    "data",
    "exact",
    "fit",
    "gaussian_conditional",
    "load",
    "log_likelihood",
    "metrics",
    "names",
    "plan",
    "plots",
    "predict",
    "reference",
]
