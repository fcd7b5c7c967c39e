"""Draws of a posterior and their reliability: the result of `credo.reference`."""

import math
import os
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import pandas as pd
import pyro.distributions as dist
import torch

from ..distributions.summaries import LONGEST, QUANTILES, Labels, quantiles, scalars
from ..inputs.arguments import number_of_draws
from ..posterior.coords import labels_of
from ..posterior.source import DrawsOfModel, Source, as_approximation
from ..predictive.arviz import to_arviz
from ..predictive.pointwise import points_of
from ..predictive.predict import predict
from ..runtime.defaults import default_dtype
from ..tables.intervals import intervals
from .diagnostics import Mixing, mixing
from .saved import save

RHAT, ESS, DIVERGENT = (
    1.01,
    400,
    0.005,
)  # largest R-hat, smallest effective sample size, largest share of divergent transitions


@dataclass(frozen=True, eq=False)
class EmpiricalMarginal:
    """The marginal posterior of one site as the empirical distribution of its draws (n, *shape of the site)."""

    draws: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        return self.draws.double().mean(0)

    @property
    def variance(self) -> torch.Tensor:
        return self.draws.double().var(0, correction=0)

    @property
    def stddev(self) -> torch.Tensor:
        return self.variance.sqrt()


@dataclass(frozen=True, repr=False, eq=False)
class Reference:
    """Draws z ~ p(z | data) of all chains, with R-hat and effective sample sizes. `credo.reference` returns it.

    draws: {site: shape (chains, draws, *shape of the site)}, finite latents included. divergences: divergent
        transitions of each chain. stopped: why the run ended. seed: of all draws.
    finite: {site: K} of the sites with values 0, ..., K-1.
    deterministic: {site: the same shape}, the deterministic sites of the model; they do not count as `problems`.
    stats: {name: (chains, draws)}, by ArviZ's names: diverging, energy (nats), n_steps, acceptance_rate.
    source: the model and the data of the draws, for predictions; None for draws that were made elsewhere.
    Diagnostics: Vehtari et al. 2021, "Rank-normalization, folding, and localization: an improved R-hat".

    >>> import credo, torch
    >>> draws = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
    >>> found = credo.Reference({"z": draws}, (0, 0, 0, 0), "all asked for", seed=0, finite={})
    >>> found.problems, found.sample(3)["z"].shape
    ((), torch.Size([3]))
    """

    draws: dict[str, torch.Tensor]
    divergences: tuple[int, ...]
    stopped: str
    seed: int
    finite: dict[str, int]
    deterministic: dict[str, torch.Tensor] = field(default_factory=dict)
    stats: dict[str, torch.Tensor] = field(default_factory=dict)
    source: Source | None = None

    @property
    def name(self) -> str:
        """What a comparison calls the draws."""
        return "NUTS"

    @property
    def log_evidence(self) -> float:
        """NaN: log p(data) cannot be computed from draws of a posterior."""
        return math.nan

    @cached_property
    def marginals(self) -> dict[str, Any]:
        """{site: its empirical marginal}, mean and variance in the site's shape; Bernoulli or Categorical if finite."""
        marginals: dict[str, Any] = {}
        for name, values in (self.draws | self.deterministic).items():
            values = values.flatten(0, 1)
            marginals[name] = EmpiricalMarginal(values)
            if k := self.finite.get(name):
                shares = torch.stack([(values == i).double().mean(0) for i in range(k)], -1)
                marginals[name] = dist.Bernoulli(shares[..., 1]) if k == 2 else dist.Categorical(shares)
        return marginals

    @cached_property
    def mixing(self) -> dict[str, Mixing]:
        """{site: R-hat, effective sample sizes and Monte Carlo errors of each of its scalars}.

        Of the deterministic sites those with at most 20 scalars.
        """
        short = {name: v for name, v in self.deterministic.items() if v[0, 0].numel() <= LONGEST}
        return {name: mixing(values) for name, values in (self.draws | short).items()}

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """Why the draws are unreliable, in words; empty if they are reliable."""
        latents = {name: self.mixing[name] for name in self.draws}
        worst = partial(_worst, self._labels)
        rhat, name = max((worst(name, m.rhat) for name, m in latents.items()), key=lambda pair: pair[0])
        fewest = [worst(name, -torch.minimum(m.ess, m.tail)) for name, m in latents.items()]
        ess, scarce = max(fewest, key=lambda pair: pair[0])
        bad, count = sum(self.divergences), self.count
        return tuple(
            words
            for holds, words in (
                (rhat > RHAT, f"the chains disagree: R-hat of {name} is {rhat:.3f}, wanted at most {RHAT}"),
                (-ess < ESS, f"{scarce}: effective sample size {-ess:,.0f}, wanted at least {ESS}"),
                (bad > DIVERGENT * count, f"{bad} of {count:,} transitions diverged, wanted at most {DIVERGENT:.1%}"),
            )
            if holds
        )

    def sample(self, n: int = 1000, *, seed: int = 0) -> dict[str, torch.Tensor]:
        """n joint draws: {site: shape (n, *shape)}, chosen without replacement unless n exceeds their number."""
        n = number_of_draws("sample", n)
        generator = torch.Generator().manual_seed(seed)
        rounds = [torch.randperm(self.count, generator=generator) for _ in range(-(-n // self.count))]
        index = torch.cat(rounds)[:n]
        return {name: values.flatten(0, 1)[index] for name, values in (self.draws | self.deterministic).items()}

    def predict(self, *new: Any, n: int | None = None, **options: Any) -> dict[str, torch.Tensor]:
        """Draws of the observed sites for new data (the data of the draws if none is given); see `credo.predict`.

        n: how many, in the first place or by name; 1,000 if it is left out.
        options: those of `credo.predict`, and arguments of the model by name. Raises ValueError as it does.
        """
        found = self.approximation
        with default_dtype(found.dtype):
            return predict(found, *new, n=n, **options)

    def intervals(self, *new: Any, prob: float = 0.9, n: int | None = None, **options: Any) -> pd.DataFrame:
        """Mean, sd, low and high of the predictive draws of each new row, as `Fit.intervals` returns them."""
        found = self.approximation
        with default_dtype(found.dtype):
            return intervals(found, *new, prob=prob, n=n, **options)

    def to_arviz(self, n: int | None = None, **options: Any) -> Any:
        """An arviz.InferenceData with the chains kept apart and the diagnostics of each draw.

        n: how many draws of all chains together, at even distances, as many of each chain; None: all.
        options: seed, sites, groups, as for `Fit.to_arviz`. Raises ValueError for more draws than there
        are.
        """
        found, kept = self.approximation, self._thinned(n)
        points = points_of(
            found,
            {name: values[:, kept] for name, values in (self.draws | self.deterministic).items()},
            {name: values[:, kept] for name, values in self.stats.items()},
        )
        with default_dtype(found.dtype):
            return to_arviz(found, points=points, **options)

    def _thinned(self, n: int | None) -> torch.Tensor:
        """Which draws of each chain are n at even distances, rounded up to as many of each chain."""
        chains, most = next(iter(self.draws.values())).shape[:2]
        if n is None:
            return torch.arange(most)
        few = -(-number_of_draws("to_arviz", n) // chains)
        if few > most:
            raise ValueError(f"n: got {n} draws, but the chains have {self.count:,} together; leave out n for all")
        return torch.arange(few) * most // few

    @cached_property
    def approximation(self) -> DrawsOfModel:
        """The draws with their model, for `credo.predict` and `credo.log_likelihood`; ValueError without a model."""
        if self.source is None:
            raise ValueError("these draws come without their model; credo.reference(model, ...) returns both")
        return as_approximation(self.source, {name: values.flatten(0, 1) for name, values in self.draws.items()})

    def save(self, path: str | os.PathLike[str], *, with_data: bool = False) -> None:
        """Writes the draws to one file, which `credo.load_fit(path, model)` reads; see `Fit.save`."""
        save(self, path, with_data)

    def summary(self) -> pd.DataFrame:
        """A table with one row for each scalar: mean, sd, quantiles, R-hat, ESS (bulk, tail), error of the mean.

        Deterministic sites with more than 20 scalars have no rows.
        """
        rows = {}
        for name, m in self.mixing.items():
            values = (self.draws | self.deterministic)[name]
            drawn = EmpiricalMarginal(values.flatten(0, 1))
            marks = quantiles(drawn.draws.double(), QUANTILES)
            for index, label in scalars(name, values.shape[2:], self._labels.get(name)):
                shown = {f"{q:.0%}": marks[(i, *index)].item() for i, q in enumerate(QUANTILES)}
                rows[label] = {
                    "mean": drawn.mean[index].item(),
                    "sd": drawn.stddev[index].item(),
                    **shown,
                    "R-hat": m.rhat[index].item(),
                    "ESS": m.ess[index].item(),
                    "tail ESS": m.tail[index].item(),
                    "error of mean": m.mean_error[index].item(),
                }
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index.name = "site"
        return table

    @cached_property
    def _labels(self) -> Labels:
        """{site: the labels of its entries}, where they have any: see `posterior/coords.py`."""
        if self.source is None:
            return {}
        with default_dtype(self.approximation.dtype):
            return labels_of(self.approximation)

    @property
    def count(self) -> int:
        """How many draws all chains have together."""
        chains, n = next(iter(self.draws.values())).shape[:2]
        return chains * n

    def __repr__(self) -> str:
        chains, n = next(iter(self.draws.values())).shape[:2]
        latents = [self.mixing[name] for name in self.draws]
        rhat = max(m.rhat.max().item() for m in latents)
        ess = min(torch.minimum(m.ess, m.tail).min().item() for m in latents)
        return (
            f"Reference: {chains} chains of {n:,} draws by NUTS, {self.stopped}; R-hat at most {rhat:.3f}, ESS at "
            f"least {ess:,.0f}, {sum(self.divergences)} divergences; latents: {', '.join(self.draws)}"
            + (f"; UNRELIABLE: {'; '.join(self.problems)}" if self.problems else "")
        )


def _worst(named: Labels, site: str, values: torch.Tensor) -> tuple[float, str]:
    """(the largest scalar of a site, its label); NaN counts as infinite."""
    values = values.nan_to_num(math.inf, posinf=math.inf)
    labels = scalars(site, values.shape, named.get(site))
    i = int(values.argmax())
    return values.flatten()[i].item(), labels[i][1]
