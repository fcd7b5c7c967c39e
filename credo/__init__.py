"""credo: Bayesian deep learning on Pyro.

    fit = credo.fit(model, guide, *data)     # minimises -ELBO = E_q[log q(z) - log p(data, z)], in nats
    fit.plan                                 # which gradient estimator each latent site got, and why
    credo.compare(fit)                       # the fit compared with the exact posterior

Everything a user needs is in this namespace; `credo.names()` lists the examples that come with it. A name is imported
when it is first used (PEP 562), so `import credo` alone does not import torch.
"""

import importlib as _importlib
from pathlib import Path as _Path
from typing import TYPE_CHECKING

if not (_Path(__file__).parent / "models").is_dir():
    # In a checkout, unlike in an install, models/, guides/ and inference/ stand beside this folder.
    __path__.append(str(_Path(__file__).resolve().parents[1]))

__version__ = "0.2.0"

# The public interface: each name, and the module that defines it.
_MODULE_OF = {
    "SVI": "credo.inference.variational.svi",
    "Calibration": "credo.inference.calibration.calibration",
    "Compressed": "credo.sparsity.compress",
    "Diverged": "credo.inference.variational.result",
    "Exact": "credo.inference.exact.closed_form",
    "Fit": "credo.inference.variational.result",
    "NoClosedForm": "credo.inference.exact.no_closed_form",
    "Pair": "credo.pairs",
    "Plan": "credo.inference.planning.plan",
    "Reference": "credo.inference.mcmc.result",
    "UnreliableReference": "credo.inference.mcmc.unreliable",
    "calibrate": "credo.inference.calibration.calibrate",
    "check": "credo.inference.evaluation.check",
    "compare": "credo.inference.evaluation.compare",
    "compare_treatments": "credo.treatments.compare",
    "compress": "credo.sparsity.compress",
    "data": "credo.data",
    "exact": "credo.inference.exact.closed_form",
    "fit": "credo.inference.evaluation.fit",
    "gaussian_conditional": "credo.inference.distributions.gaussian",
    "gather": "credo.sweeps.folder",
    "load": "credo.pairs",
    "load_fit": "credo.inference.evaluation.load",
    "log_likelihood": "credo.inference.predictive.likelihood",
    "metrics": "credo.metrics",
    "names": "credo.pairs",
    "nn": "credo.nn",
    "plan": "credo.inference.evaluation.fit",
    "plots": "credo.plots",
    "predict": "credo.inference.predictive.predict",
    "predictions": "credo.forms",
    "reference": "credo.inference.mcmc.reference",
    "split_uncertainty": "credo.forms",
    "sweep": "credo.sweeps.sweep",
}
__all__ = list(_MODULE_OF)
# Submodules that are no public names.
_PARTS = ("cli", "guides", "inference", "models", "pairs", "report", "sweeps", "treatments")

if TYPE_CHECKING:  # the same names, for type checkers and editors; a test compares the two lists
    from credo import data as data
    from credo import metrics as metrics
    from credo import nn as nn
    from credo import plots as plots
    from credo.forms import predictions as predictions
    from credo.forms import split_uncertainty as split_uncertainty
    from credo.inference.calibration.calibrate import calibrate as calibrate
    from credo.inference.calibration.calibration import Calibration as Calibration
    from credo.inference.distributions.gaussian import gaussian_conditional as gaussian_conditional
    from credo.inference.evaluation.check import check as check
    from credo.inference.evaluation.compare import compare as compare
    from credo.inference.evaluation.fit import fit as fit
    from credo.inference.evaluation.fit import plan as plan
    from credo.inference.evaluation.load import load_fit as load_fit
    from credo.inference.exact.closed_form import Exact as Exact
    from credo.inference.exact.closed_form import exact as exact
    from credo.inference.exact.no_closed_form import NoClosedForm as NoClosedForm
    from credo.inference.mcmc.reference import reference as reference
    from credo.inference.mcmc.result import Reference as Reference
    from credo.inference.mcmc.unreliable import UnreliableReference as UnreliableReference
    from credo.inference.planning.plan import Plan as Plan
    from credo.inference.predictive.likelihood import log_likelihood as log_likelihood
    from credo.inference.predictive.predict import predict as predict
    from credo.inference.variational.result import Diverged as Diverged
    from credo.inference.variational.result import Fit as Fit
    from credo.inference.variational.svi import SVI as SVI
    from credo.pairs import Pair as Pair
    from credo.pairs import load as load
    from credo.pairs import names as names
    from credo.sparsity.compress import Compressed as Compressed
    from credo.sparsity.compress import compress as compress
    from credo.sweeps.folder import gather as gather
    from credo.sweeps.sweep import sweep as sweep
    from credo.treatments.compare import compare_treatments as compare_treatments
else:  # hidden from type checkers, for which it would make every name exist

    def __getattr__(name):
        if name in _PARTS:
            return _importlib.import_module(f"credo.{name}")
        if name not in _MODULE_OF:
            from difflib import get_close_matches

            close = [] if name.startswith("_") else get_close_matches(name, _MODULE_OF, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise AttributeError(f"module 'credo' has no attribute {name!r}{hint}")
        module = _importlib.import_module(_MODULE_OF[name])
        value = module if module.__name__ == f"credo.{name}" else getattr(module, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*_MODULE_OF, *(name for name in globals() if name.startswith("__"))})
