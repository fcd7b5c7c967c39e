"""`credo.exact`: the posterior of a model in closed form, found from its log joint density.

    f(z) = log p(data, z)  is linear in the sufficient statistics of a conjugate family    (Diaconis and Ylvisaker 1979)

Gradients of f at a few points therefore determine the natural parameters of q. Then f(z) - log q(z) must be the same
number at points far apart: that number is log p(data). If it varies, `NoClosedForm` is raised.
"""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch

from ..distributions.summaries import as_table, mean_and_sd
from ..distributions.unwrap import kind
from ..inputs.arguments import arguments, gaps_of, number_of_draws, to_predict
from ..inputs.call import by_name
from ..inputs.draws import draws_and_data
from ..inputs.labels import Labels
from ..pair.followers import without_masks
from ..posterior.coords import labels_of
from ..posterior.source import Source, as_approximation
from ..predictive.arviz import to_arviz
from ..predictive.batched import memory
from ..predictive.pointwise import Points
from ..preflight.given import checking_model
from ..runtime.generators import noise
from ..runtime.sites import quoted
from ..runtime.state import State, entered, new_state, reading, refuse_unknown, snapshot
from ..storage.absent import refuse_without_data
from ..tables.intervals import intervals
from .block_posterior import Draws
from .coordinates import Values
from .inspection import Inspection, improper_priors, inspect_model
from .log_joint import LogJoint
from .mixture import Component, joint, log_prob, mixture_marginals, sample
from .points import Checked
from .precision import in_double, is_narrow
from .predict import deterministic_at, predict
from .saved import save
from .search import posterior_of

CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Exact:
    """A posterior in closed form: p(z | data) = p(data, z) / p(data). `credo.exact` returns it.

    marginals: {site: Pyro distribution}; mean and variance have the shape of the site. log_evidence: log p(data), nats,
    of all data so far. data: the arguments as tensors; after `update` the latest ones. components: a closed form for
    each joint value of finite latents beside continuous ones. model, columns, codes: as in a `Fit`.

    >>> import credo, torch
    >>> pair = credo.load("coin_toss")
    >>> posterior = credo.exact(pair.model, torch.tensor([1.0, 1.0, 0.0]))
    >>> posterior.sample(5)["p"].shape
    torch.Size([5])
    >>> round(posterior.update(torch.ones(7)).marginals["p"].mean.item(), 4)
    0.7857
    """

    model: Callable[..., Any]
    data: tuple[Any, ...]
    marginals: Mapping[str, Any]
    log_evidence: float
    components: tuple[Component, ...]
    columns: tuple[list[str] | None, ...]
    state: State
    narrow: bool = False  # whether the model uses tensors of less than double precision
    improper: tuple[str, ...] = ()  # latents whose prior does not integrate to 1: log_evidence has no absolute value
    codes: Labels = dataclasses.field(default_factory=dict)  # of text and categories, as in a fit
    row_labels: tuple[list[Any] | None, ...] = ()  # the index of each argument that had one of its own
    updated: bool = False  # whether `update` made it

    @functools.cached_property
    def joint(self) -> Any:
        """The joint distribution of all latents, or None.

        For a single site it is the marginal; for sites that are all normal, one MultivariateNormal of their numbers,
        site after site in the order of the model, each flattened row by row.
        """
        return joint(self.marginals, self.components)

    def sample(self, n: int = 1000, *, seed: int = 0) -> Draws:
        """n joint draws z ~ p(z | data), with the deterministic sites: {site: shape (n, *shape of the site)}."""
        draws = self._latents(number_of_draws("sample", n), seed)
        refuse_without_data(self.data, "sample")
        with reading(self.state, seed), in_double(self.narrow), torch.no_grad():
            return draws | deterministic_at(self.model, self.data, draws)

    def _latents(self, n: int, seed: int) -> Draws:
        with noise(seed), torch.no_grad():
            return self._drawn(n)

    def _drawn(self, n: int) -> Draws:
        drawn = sample(self.components, n)
        return {name: drawn[name] for name in self.marginals}

    def predict(
        self, *new: Any, n: int | None = None, seed: int = 0, batch: int | None = None, reduce: Any = None, **named: Any
    ) -> Draws:
        """n draws of the observed sites: {site: shape (n, *shape of the site)}, one row for each row of the new data.

        n, batch, reduce: as for `credo.predict`. new: the model's arguments; those left out at the end (the values to
        predict) become None. Without arguments, the observations of the posterior's own data are drawn again. Latents
        of other rows are drawn from the model given the others, and returned, as are deterministic sites.
        Raises ValueError for data that `credo.exact` refuses, and for a subsampled plate.
        """
        (n, new), options = draws_and_data("predict", new, n, fitted=self.data), memory(batch, reduce)
        new = by_name(self.model, new, named, ("n", "seed", "batch", "reduce"))
        refuse_without_data(self.data, "predict" if new else "rows")
        values = to_predict(self._tensors(new, predicted=True) if new else self.data, self.data)
        with reading(self.state, seed), in_double(self.narrow), torch.no_grad():
            return predict(self.model, self.data, values, self._drawn, n, seed, options)

    def intervals(self, *new: Any, prob: float = 0.9, n: int | None = None, **options: Any) -> pd.DataFrame:
        """Mean, sd, low and high of the predictive draws of each new row, as `Fit.intervals` returns them."""
        with in_double(self.narrow):
            return intervals(self, *new, prob=prob, n=n, **options)  # type: ignore[arg-type]

    def to_arviz(self, n: int = 1000, *, seed: int = 0, **options: Any) -> Any:
        """An arviz.InferenceData with one chain of n draws; the likelihood of a row is conditional on all latents.

        options: sites, groups, as for `Fit.to_arviz`.
        """
        draws = self._latents(number_of_draws("to_arviz", n), seed)
        source = Source(self.model, self.data, self.columns, self.codes, self.state, None, self.row_labels)
        points = Points(draws, n, log_evidence=None if self.updated else self.log_evidence)
        with in_double(self.narrow):
            return to_arviz(as_approximation(source, draws), seed=seed, points=points, **options)

    def summary(self, n: int = 4000, *, seed: int = 0) -> pd.DataFrame:
        """A table with one row for each scalar latent: exact mean and sd, and quantiles of n draws."""
        n, moments = number_of_draws("summary", n), {name: mean_and_sd(fn) for name, fn in self.marginals.items()}
        with in_double(self.narrow):
            labels = labels_of(self)
        return as_table(moments, self._latents(n, seed), labels)

    def update(self, *more: Any) -> "Exact":
        """Today's posterior as tomorrow's prior: p(z | data, more) = p(more | z) p(z | data) / p(more | data).

        more: the model's arguments, as for `exact`. The log_evidence of the result is log p(data, more). The latents
        are the same, so a model with one latent for each row cannot be updated with other rows.
        Raises NoClosedForm as `exact` does; ValueError for a latent that has another shape with this data.
        """
        values = self._tensors(more)
        with entered(snapshot(self.state), seed=0), in_double(self.narrow):
            inspection = inspect_model(self.model, values)
            for name, fn in self.marginals.items():
                shape = tuple(inspection.latents[name]["fn"].shape()) if name in inspection.latents else None
                if shape != tuple(fn.mean.shape):
                    raise ValueError(
                        f"site {name!r}: shape {tuple(fn.mean.shape)} so far and {shape} with this data, so they "
                        f"are other latents; pass all the data to credo.exact at once"
                    )
            components, before = self.components, self.log_evidence
            if inspection.finite and not components[0].held:
                so_far = inspect_model(self.model, self.data)
                components = tuple(posterior_of(LogJoint(self.model, self.data), so_far, by_value=True)[0])

            def prior(z: Values) -> torch.Tensor:
                return before + log_prob(components, z)

            f = LogJoint(self.model, values, log_prior=prior)
            found = _exact(f, inspection, self.columns, self.state, self.narrow, self.improper)
            return dataclasses.replace(found, codes=self.codes, updated=True)

    def _tensors(self, data: tuple[Any, ...], predicted: bool = False) -> tuple[Any, ...]:
        refuse_unknown(self.state, data)
        asked: dict[str, Any] = {"gaps": gaps_of(self.model, self.data), "fitted": self.data, "predicted": predicted}
        return arguments(self.model, data, torch.float64, CPU, self.columns, self.codes, **asked).values

    def __repr__(self) -> str:
        sites = ", ".join(f"{name}: {kind(fn)}" for name, fn in self.marginals.items()) or "no latents"
        constant = f", up to an arbitrary constant: the prior of {quoted(self.improper)} does not integrate to 1"
        constant = constant if self.improper else ""
        checked = f"; {self.checked}" if self.checked else ""
        return f"Exact: log evidence {self.log_evidence:,.4f} nats{constant}; {sites}{checked}"

    def save(self, path: str | os.PathLike[str], *, with_data: bool = False) -> None:
        """Writes the posterior to one file, which `credo.load_fit(path, model)` reads; see `Fit.save`."""
        save(self, path, with_data)

    @property
    def checked(self) -> Checked | None:
        """At how many points the closed form was compared with the model, and how far apart they are in prior sds.

        A narrower spike of the posterior may have been missed. None for finite latents, which are summed over exactly.
        """
        found = [c.checked for c in self.components if c.checked is not None]
        return Checked(sum(c.points for c in found), max(c.apart for c in found)) if found else None


def exact(model: Callable[..., Any], *data: Any, **named: Any) -> Exact:
    """The exact posterior of a model that has one in closed form, p(z | data) = p(data, z) / p(data), and log p(data).

    model: any Pyro model. data, named: its arguments, as for `credo.fit`.
    Families: Beta, Dirichlet, Gamma, InverseGamma, Normal and its bijections, jointly normal sites, normal-gamma,
    finite sites, and mixtures over few finite values.
    Computes in double precision on the CPU, whatever the model's own precision. log_evidence is in nats.

    Raises NoClosedForm, which names the site, the nearest family and its error in nats; ValueError for data that
    `credo.fit` refuses. Source: Diaconis and Ylvisaker 1979.

    >>> import credo, torch
    >>> pair = credo.load("coin_toss")
    >>> posterior = credo.exact(pair.model, torch.tensor([1.0, 1.0, 0.0, 1.0]))
    >>> posterior
    Exact: log evidence -2.8622 nats; p: Beta; checked at 3,961 points, at most 0.0017 prior sds apart
    """
    data = by_name(model, data, named)
    given = arguments(model, data, torch.float64, CPU, gaps=None, whole=True)
    for notice in given.notices:
        warnings.warn(notice, stacklevel=2)
    values, state = given.values, snapshot(new_state((model, data), 0, CPU), torch.float64)
    with entered(state, seed=0), in_double(), checking_model(model, given) as misread:
        found = _sought(without_masks(model, values), values, given.columns, state)
    for warning in misread:
        warnings.warn(warning, stacklevel=2)
    return dataclasses.replace(found, codes=dict(given.codes), row_labels=given.row_labels)


def _sought(
    model: Callable[..., Any], data: tuple[Any, ...], columns: tuple[list[str] | None, ...], state: State
) -> Exact:
    narrow = is_narrow(model, data)
    with in_double(narrow):
        return _exact(LogJoint(model, data), inspect_model(model, data), columns, state, narrow)


def _exact(
    f: LogJoint,
    inspection: Inspection,
    columns: tuple[list[str] | None, ...],
    state: State,
    narrow: bool,
    before: tuple[str, ...] = (),
) -> Exact:
    components, log_evidence = posterior_of(f, inspection, by_value=f.log_prior is not None)
    marginals = mixture_marginals(components, inspection)
    ordered = {name: marginals[name] for name in inspection.traces[0].nodes if name in marginals}
    improper = before or improper_priors(inspection)
    return Exact(f.model, f.data, ordered, log_evidence, tuple(components), columns, state, narrow, improper)
