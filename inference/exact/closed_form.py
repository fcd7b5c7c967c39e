"""Exact posteriors, found and not told.

    f(z) = log p(data, z)  is linear in the sufficient statistics of a family    (Diaconis and Ylvisaker 1979)

so slopes of f at a few points determine the natural parameters of q, and then f(z) - log q(z) must be one number at
points far apart: that number is log p(data), and what it varies by is the refutation.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from pyro import poutine

from ..distributions.summaries import as_table, mean_and_sd
from ..distributions.unwrap import kind
from ..runtime.arguments import column_names, tensors
from ..runtime.generators import noise
from ..runtime.held import Held
from ..runtime.state import State, entered, new_state, refuse_unknown, snapshot
from .belief import Belief, Point
from .coordinates import Values, coordinates
from .finite import eliminate
from .inspection import RUNS, Inspection, inspect_model, refuse_other_sites
from .joint_normal import joint
from .log_joint import LogJoint, scored, values_in
from .mixture import MOST, Component, draws, joint_values, listed, log_prob, mixed
from .no_closed_form import NoClosedForm
from .precision import in_double, is_narrow
from .predict import predict
from .proof import prove
from .solve import solve

CPU = torch.device("cpu")  # where double precision is at home


MOST_POINTS = 200  # over posterior and prior, in a proof


EFFORT = 8_000_000  # numbers that a run of the model touches, times such points, of all closed forms together


OVERHEAD = 5_000  # numbers that take as long as one site


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Exact:
    """The posterior of a model in closed form.

    marginals: {site: Pyro distribution, whose mean and variance have the shape of the site}.
    log_evidence: log p(data), nats, of all data so far. data: the arguments, as tensors; after `update` the latest.
    components: the joint posterior, a closed form for each joint value of finite latents that stand beside others.
    """

    model: Callable[..., Any]
    data: tuple[Any, ...]
    marginals: Mapping[str, Any]
    log_evidence: float
    components: tuple[Component, ...]
    columns: tuple[list[str] | None, ...]
    state: State
    narrow: bool = False  # whether the model holds tensors of less than double precision

    @functools.cached_property
    def joint(self) -> Any:
        """The distribution of all latents where they have one: of a single site its marginal; of sites that are all
        normal one MultivariateNormal of their numbers, site after site in the order of the model, each flattened row
        by row; else None.
        """
        return joint(self.marginals, self.components)

    def sample(self, n: int = 1000, *, seed: int = 0) -> Point:
        """n joint draws z ~ p(z | data): {site: shape (n, *shape of the site)}."""
        if n < 1:
            raise ValueError(f"n: got {n}, wanted at least one draw")
        with noise(seed), torch.no_grad():
            drawn = draws(self.components, n)
        return {name: drawn[name] for name in self.marginals}

    def predict(self, n: int, *new: Any, seed: int = 0) -> Point:
        """n draws of the observed sites for new data (that of the posterior if none is given).

        See `exact_predict.predict`.
        """
        return predict(self, n, *new, seed=seed)

    def summary(self, n: int = 4000, *, seed: int = 0) -> pd.DataFrame:
        """A row for each scalar of each latent: exact mean and sd, and quantiles of n draws."""
        found = {name: mean_and_sd(fn) for name, fn in self.marginals.items()}
        return as_table(found, self.sample(n, seed=seed))

    def update(self, *more: Any) -> "Exact":
        """Today's posterior as tomorrow's prior: p(z | data, more) = p(more | z) p(z | data) / p(more | data).

        more: the model's arguments, as for `exact`. log_evidence is then that of all data so far. The latents are the
        same ones, so a latent with a value for each row of the data cannot meet other rows.
        Raises NoClosedForm as `exact` does, ValueError for a latent that has another shape with this data.
        """
        refuse_unknown(self.state, more)
        values = tensors(self.model, more, torch.float64, CPU, self.columns)
        with entered(snapshot(self.state), seed=0), in_double(self.narrow):
            looks = inspect_model(self.model, values)
            for name, fn in self.marginals.items():
                shape = tuple(looks.latents[name]["fn"].shape()) if name in looks.latents else None
                if shape != tuple(fn.mean.shape):
                    raise ValueError(
                        f"site {name!r}: shape {tuple(fn.mean.shape)} so far and {shape} with this data, so these are "
                        f"other latents; pass all the data to credo.exact at once"
                    )
            components, before = self.components, self.log_evidence
            if looks.finite and not components[0].held:
                so_far = inspect_model(self.model, self.data)
                components = tuple(found(LogJoint(self.model, self.data), so_far, listing=True)[0])

            def prior(z: Values) -> torch.Tensor:
                return before + log_prob(components, z)

            f = LogJoint(self.model, values, log_prior=prior)
            return _exact(f, looks, self.columns, self.state, self.narrow)

    def __repr__(self) -> str:
        sites = ", ".join(f"{name}: {kind(fn)}" for name, fn in self.marginals.items()) or "no latents"
        return f"Exact: log evidence {self.log_evidence:,.4f} nats; {sites}"


def exact(model: Callable[..., Any], *data: Any) -> Exact:
    """p(z | data) = p(data, z) / p(data) in closed form, for a model that has one, with log p(data) in nats.

    model: any Pyro model; data: its arguments, as for `credo.fit`. Families: Beta, Dirichlet, Gamma, InverseGamma,
    Normal and its bijections, jointly normal sites, normal-gamma, finite sites, and mixtures over few finite values.
    Works in double precision whatever the model's own, and on the CPU.
    Raises NoClosedForm naming the site, the nearest family and by how many nats it fails; ValueError for data that
    `credo.fit` would refuse.
    """
    values = tensors(model, data, torch.float64, CPU)
    state = snapshot(new_state((model, data), 0, CPU), torch.float64)
    with entered(state, seed=0), in_double():
        narrow = is_narrow(model, values)
        with in_double(narrow):
            return _exact(
                LogJoint(model, values), inspect_model(model, values), column_names(model, data), state, narrow
            )


def _exact(f: LogJoint, looks: Inspection, columns: tuple[list[str] | None, ...], state: State, narrow: bool) -> Exact:
    components, log_evidence = found(f, looks, listing=f.log_prior is not None)
    marginals = mixed(components, looks)
    ordered = {name: marginals[name] for name in looks.traces[0].nodes if name in marginals}
    return Exact(f.model, f.data, ordered, log_evidence, tuple(components), columns, state, narrow)


def found(f: LogJoint, looks: Inspection, listing: bool = False) -> tuple[list[Component], float]:
    """(the posterior, log p(data) in nats). listing: finite latents by their joint values, even if they are alone."""
    if not looks.finite:
        answer = closed_form(f, looks)
        assert answer is not None
        return [Component({}, 0.0, answer[0])], answer[1]
    if not looks.continuous and not listing:
        try:
            belief, log_evidence = eliminate(f, looks)
            return [Component({}, 0.0, (belief,))], log_evidence
        except NoClosedForm:
            if joint_values(looks) > MOST:
                raise
    of = round(joint_values(looks))
    return listed(f, looks, lambda held, which: closed_form(held, looks, which, of))


def closed_form(f: LogJoint, looks: Inspection, which: int = 0, of: int = 1) -> tuple[tuple[Belief, ...], float] | None:
    """Of the continuous latents, finite ones held; None where the data is impossible.

    which, of: of so many that share the effort, and each looks at other points.
    """
    traces = looks.traces
    if f.held:
        traces = [_drawn(f, seed) for seed in range(RUNS)]
        for trace in traces:
            refuse_other_sites(looks.traces[0], trace)
    with torch.no_grad():
        costs = [site["log_prob"] for site in scored(traces[0]).nodes.values() if "log_prob" in site]
        if f.held and any((cost == -torch.inf).any() for cost in costs):
            totals = [f(values_in(trace, looks.continuous)).total.item() for trace in traces]
            if all(total == -torch.inf for total in totals):
                return None
        where = coordinates({name: traces[0].nodes[name] for name in looks.continuous})
        if not where.variables:
            return (), f({}).total.item()
        starts = [where.flat(values_in(trace, looks.continuous)) for trace in traces]
    rows = max(cost.numel() for cost in costs)
    numbers = sum(cost.numel() for cost in costs) + sum(v.numel() for v in f.data if isinstance(v, torch.Tensor))
    n = min(MOST_POINTS, EFFORT // (of * (numbers + OVERHEAD * len(costs))))
    with noise(which):
        fits = solve(f, where, starts, rows)
        log_evidence = prove(f, where, fits, starts, n)
    return tuple(fit.belief for fit in fits if fit.belief is not None), log_evidence


def _drawn(f: LogJoint, seed: int) -> poutine.Trace:
    with noise(seed), torch.no_grad():
        return poutine.trace(Held(f.held)(f.model)).get_trace(*f.data)
