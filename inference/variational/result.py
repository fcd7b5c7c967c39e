"""The result of a run: `Fit`, and `Diverged` when the loss is no longer finite."""

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyro
import torch
from torch import nn

from ..exact.closed_form import Exact
from ..gaussian.psis import Importance
from ..importance.correct_fit import reweighted
from ..importance.correction import Correction
from ..importance.of_all_rows import corrected_by_all_rows
from ..inputs.arguments import Arguments
from ..inputs.labels import Labels
from ..pair.pair import Pair, Summed
from ..planning.plan import Plan
from ..posterior.agreement import Agreement
from ..posterior.given_rows import sample_rows
from ..posterior.sample import sample
from ..posterior.trained import networks, trained
from ..posterior.verdict import Verdict
from ..predictive.arviz import to_arviz
from ..predictive.latents import latents
from ..predictive.predict import predict
from ..runtime.parameters import constrained
from ..runtime.reachable import find_modules
from ..runtime.state import State, own_modules, snapshot
from ..tables.intervals import intervals
from ..tables.row_summary import row_summary
from ..tables.summary import summary
from .in_words import in_words, last_tenth
from .saved import save

STEPPED = ("svi", "mean field", "amortised")  # methods that take steps


@dataclass(frozen=True, repr=False, eq=False)
class Fit:
    """An approximate posterior q(z): a guide with the parameters that a run found. Later training does not change it.

    params: {name: constrained value}. losses: -ELBO at each step, nats. falls: steps at which the learning rate fell.
    plan: the estimators at the end of the run. stopped: why the run ended. seed: of the run. verdict: what
        `credo.check` says of it, or None. batch_size: rows of the data in a step; None: all.
    method: how it was found: "exact", "full rank", "low rank", "Laplace" or one "by fixed draws" without steps, when
        there are no losses and the plan is empty; "mean field", "amortised", "svi" by steps. why: of guide=None.
        exact: the closed form, or None. importance: the weights of draws of a normal, an `Importance`, or None.
    model, guide, data: what was fitted, the data as tensors; columns: the column names of an argument that was a table.
    codes: {argument, or column of a matrix: its labels}, of text and categories: the code of a label is its place.
    Methods that draw raise ValueError for fewer than one draw.

    >>> import credo, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> fit = credo.fit(pair.model, pair.guide, flips, steps=500, seed=1, compile=False)
    >>> fit.sample(10)["p"].shape, fit.predict(10)["flips"].shape, list(fit.summary().columns)
    (torch.Size([10]), torch.Size([10, 4]), ['mean', 'sd', '5%', '50%', '95%'])
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    data: tuple[Any, ...]
    params: dict[str, torch.Tensor]
    losses: tuple[float, ...]
    plan: Plan
    stopped: str
    seed: int
    columns: tuple[list[str] | None, ...]
    state: State
    summed: Summed | None = None  # the model's latents that the guide does not have
    followers: frozenset[str] = frozenset()  # latents with masked entries that follow the model
    codes: Labels = field(default_factory=dict)
    row_labels: tuple[list[Any] | None, ...] = ()  # the index of each argument that had one of its own
    method: str = "svi"
    why: str = ""
    importance: Importance | None = None
    exact: Exact | None = None
    verdict: Verdict | None = None
    correction: Correction | None = None
    batch_size: int | None = None  # rows of the data in a step; None: all
    falls: tuple[int, ...] = ()  # the steps before which the learning rate fell
    agreement: Agreement | None = None  # with the runs of other seeds

    def sample(self, n: int = 1000, *, seed: int = 0, rows: Any = None) -> dict[str, torch.Tensor]:
        """n joint draws of the latents, and of the deterministic sites: {site: shape (n, *shape of the site)}.

        Latents come from the guide, finite ones that were summed out are drawn given the data. seed: of the draws.
        rows: of the latents of rows these alone, fit.sample(100, rows=[3, 17]): numbers, a slice, a mask, or labels of
        the index of a table. Memory follows their number. Deterministic sites then come where each row has its own.
        """
        return sample(self, n, seed=seed) if rows is None else sample_rows(self, n, rows, seed=seed)

    def latents(self, *new: Any, n: int | None = None, **options: Any) -> dict[str, torch.Tensor]:
        """n draws of the latents of new rows, by a guide that computes them from the data of the rows ("amortised").

        options: `seed`, and arguments of the model by name. Raises ValueError where the guide knows no new rows.
        """
        return latents(self, *new, n=n, **options)

    def predict(
        self, *new: Any, n: int | None = None, prior: bool = False, corrected: bool = False, **options: Any
    ) -> dict[str, torch.Tensor]:
        """Draws of the observed sites for new data (the training data if none is given); see `credo.predict`.

        n: how many, in the first place or by name: predict(x), predict(100, x), predict(x, n=100).
        options: `seed`, `rows`, `batch` and `reduce` of `credo.predict`, and arguments of the model by name.
        """
        return predict(self, *new, n=n, prior=prior, corrected=corrected, **options)

    def intervals(self, *new: Any, prob: float = 0.9, n: int | None = None, **options: Any) -> pd.DataFrame:
        """A table, in the units of the data: mean, sd, low and high of the predictive draws of each new row.

        low and high hold the central probability `prob`. Classes have a column each, their probability. The index is
        that of the new rows. options: `seed` and `batch`, as for `credo.predict`.
        """
        return intervals(self, *new, prob=prob, n=n, **options)

    def to_arviz(self, n: int = 1000, *, corrected: bool = False, **options: Any) -> Any:
        """An arviz.InferenceData of n draws. options: `seed`; `sites=["b"]` and `groups=["posterior"]` take a part."""
        known = None if self.exact is None or corrected else self.exact.log_evidence
        return to_arviz(self.reweighted if corrected else self, n, log_evidence=known, **options)

    def corrected(self, n: int = 1000, *, seed: int = 0, data: tuple[Any, ...] = ()) -> dict[str, torch.Tensor]:
        """n joint draws of the posterior, resampled by importance weights w = p(data, z) / r(z): {site: (n, *shape)}.

        r is a mixture of normals and Student distributions around the guide and around other modes. The draws are right
        where `fit.verdict` says "yes" or "corrected", though the guide is not; `fit.importance` has their effective
        sample size and log p(data) with its error. Deterministic sites and summed-out finite latents come too.
        data: all rows again, of a fit that read them by windows.
        Raises ValueError where the weights cannot be trusted, with the reason.
        """
        return sample(corrected_by_all_rows(self, data) if data else self.reweighted, n, seed=seed)

    @functools.cached_property
    def reweighted(self) -> "Fit":
        """The fit with weighted draws of the posterior in the place of its guide; ValueError as for `corrected`."""
        return reweighted(self)

    def trained(self, net: nn.Module, *, draw: int | None = None) -> nn.Module:
        """A copy of this network or autoguide with its trained parameters, in evaluation mode.

        Weights that are latents of the model get their posterior mean, or with `draw=seed` a draw from the posterior.
        An autoguide serves Pyro: `Predictive(model, guide=fit.trained(guide), num_samples=100)` draws from this fit.
        """
        return trained(self, net, draw)

    def networks(self, net: nn.Module, n: int = 10, *, seed: int = 0) -> list[nn.Module]:
        """n copies of a Bayesian network, each with weights drawn from the posterior; `predict` averages over them."""
        return networks(self, net, n, seed)

    def summary(self, n: int = 4000, *, seed: int = 0, corrected: bool = False, rows: Any = None) -> pd.DataFrame:
        """A row for each scalar of each latent: mean and sd (in closed form where the guide has one), and quantiles.

        Then rows for finite latents that were summed out, with their likeliest value, and for deterministic sites. Of
        a large finite site they are shares of its rows, a large deterministic one has none. corrected: of weighted
        draws of the posterior, as in `corrected`; the column `error` then has the standard errors of the means. rows:
        as for `sample`, called by their own numbers or labels: z[17].
        """
        fit = self.reweighted if corrected else self
        return summary(fit, n, seed) if rows is None else row_summary(fit, n, seed, rows)

    def save(self, path: str | os.PathLike[str], *, with_data: bool = False) -> None:
        """Writes the fit to one file, safetensors with JSON, which `credo.load_fit(path, model, guide)` reads.

        Model, guide and networks are code and are not in it; the data only if asked for. Raises OSError, naming path.
        """
        save(self, path, with_data)

    @property
    def converged(self) -> bool:
        """Whether the run ended by itself, and `verdict` finds nothing wrong. False after a number of steps."""
        return self.stopped.startswith("converged")

    @property
    def seeds(self) -> pd.DataFrame | None:
        """A row for each of the `seeds` of `credo.fit`, compared with the best, this fit; None for a single run.

        ELBO and how far it is below the best in nats, with errors; columns |site|: distance of means, in its sds.
        """
        return None if self.agreement is None else self.agreement.table

    @property
    def final_loss(self) -> float:
        """The mean of the last tenth of the losses, nats; NaN before the first step."""
        last = self.losses[-last_tenth(self.losses) :]
        return sum(last) / len(last) if last else math.nan

    def __repr__(self) -> str:
        return in_words(self, stepped=self.method in STEPPED)


def finished(
    model: Callable[..., Any],
    pair: Pair,
    losses: list[float],
    plan: Plan,
    stopped: str,
    seed: int,
    given: Arguments | None = None,
) -> Fit:
    """The fit of the run that is entered now: it copies the current parameter store and the modules of the pair.

    given: the data with the names of its columns and its labels; None for the tensors of a Pyro program.
    """
    modules = own_modules(find_modules((pair.model, pair.guide, pair.data)))
    return Fit(
        model=model,
        guide=pair.guide,
        data=pair.data,
        params=constrained(),
        losses=tuple(losses),
        plan=plan,
        stopped=stopped,
        seed=seed,
        columns=() if given is None else given.columns,
        state=snapshot(State(dict(pyro.get_param_store().get_state()), modules, device=torch.get_default_device())),
        summed=pair.summed,
        followers=pair.followers,
        codes={} if given is None else dict(given.codes),
        row_labels=() if given is None else given.row_labels,
    )


class Diverged(ArithmeticError):
    """Raised when -ELBO becomes infinite or NaN.

    fit: a `Fit` with the last finite average of the parameters.

    >>> import credo, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> try:
    ...     fit = credo.fit(pair.model, pair.guide, flips)
    ... except credo.Diverged as error:
    ...     fit = error.fit
    """

    def __init__(self, message: str, fit: Fit) -> None:
        super().__init__(
            f"{message}; .fit holds the result until then. A smaller lr, more particles, or starting values "
            f"nearer to the data usually help"
        )
        self.fit = fit
