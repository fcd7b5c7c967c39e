"""Draws from a posterior, and whether to believe them: what `credo.reference` returns."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import pyro.distributions as dist
import torch

from ..distributions.summaries import QUANTILES, scalars
from ..runtime.arguments import whole_number
from .diagnostics import Mixing, mixing

RHAT, ESS, DIVERGENT = 1.01, 400, 0.005  # at most, at least, and the share of all draws that may diverge


@dataclass(frozen=True, eq=False)
class DrawnMarginal:
    """The marginal posterior of one site, known by its draws, shape (n, *shape of the site)."""

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
    """Draws from a posterior, and how far they can be believed.

    draws: {site: shape (chains, draws, *shape of the site)}, finite latents among them. divergences: of each chain.
    stopped: why the run ended. finite: {site: K} of the sites on 0, ..., K-1.
    """

    draws: dict[str, torch.Tensor]
    divergences: tuple[int, ...]
    stopped: str
    seed: int
    finite: dict[str, int]

    @property
    def log_evidence(self) -> float:
        """NaN: draws from a posterior do not tell log p(data)."""
        return math.nan

    @cached_property
    def marginals(self) -> dict[str, Any]:
        """{site: its marginal, with mean and variance of the site's shape}; of finite sites the values' shares."""
        found: dict[str, Any] = {}
        for name, values in self.draws.items():
            values = values.flatten(0, 1)
            found[name] = DrawnMarginal(values)
            if k := self.finite.get(name):
                shares = torch.stack([(values == i).double().mean(0) for i in range(k)], -1)
                found[name] = dist.Bernoulli(shares[..., 1]) if k == 2 else dist.Categorical(shares)
        return found

    @cached_property
    def mixing(self) -> dict[str, Mixing]:
        """{site: R-hat, effective sample sizes and Monte Carlo errors of each of its numbers}."""
        return {name: mixing(values) for name, values in self.draws.items()}

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """Why these draws are not to be believed, in words; nothing for those that are."""
        rhat, name = max((_worst(name, m.rhat) for name, m in self.mixing.items()), key=lambda pair: pair[0])
        fewest = [_worst(name, -torch.minimum(m.ess, m.tail)) for name, m in self.mixing.items()]
        ess, scarce = max(fewest, key=lambda pair: pair[0])
        bad, count = sum(self.divergences), self._count
        return tuple(
            words
            for holds, words in (
                (rhat > RHAT, f"the chains disagree: R-hat of {name} is {rhat:.3f}, wanted at most {RHAT}"),
                (-ess < ESS, f"the draws of {scarce} are worth {-ess:,.0f} independent ones, wanted at least {ESS}"),
                (bad > DIVERGENT * count, f"{bad} of {count:,} transitions diverged, wanted at most {DIVERGENT:.1%}"),
            )
            if holds
        )

    def sample(self, n: int = 1000, *, seed: int = 0) -> dict[str, torch.Tensor]:
        """n of the draws, jointly: {site: shape (n, *shape)}; none twice unless more are wanted than there are."""
        n = whole_number("n", n, 1)
        generator = torch.Generator().manual_seed(seed)
        rounds = [torch.randperm(self._count, generator=generator) for _ in range(-(-n // self._count))]
        index = torch.cat(rounds)[:n]
        return {name: values.flatten(0, 1)[index] for name, values in self.draws.items()}

    def summary(self) -> pd.DataFrame:
        """A row for each scalar: mean, sd, quantiles, R-hat, ESS (bulk, tail), Monte Carlo error of the mean."""
        rows = {}
        for name, values in self.draws.items():
            drawn, m = DrawnMarginal(values.flatten(0, 1)), self.mixing[name]
            ordered = drawn.draws.double().sort(0).values
            for index, label in scalars(name, values.shape[2:]):
                shown = {f"{q:.0%}": ordered[(round(q * (len(ordered) - 1)), *index)].item() for q in QUANTILES}
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

    @property
    def _count(self) -> int:
        chains, n = next(iter(self.draws.values())).shape[:2]
        return chains * n

    def __repr__(self) -> str:
        chains, n = next(iter(self.draws.values())).shape[:2]
        rhat = max(m.rhat.max().item() for m in self.mixing.values())
        ess = min(torch.minimum(m.ess, m.tail).min().item() for m in self.mixing.values())
        return (
            f"Reference: {chains} chains of {n:,} draws by NUTS, {self.stopped}; R-hat at most {rhat:.3f}, ESS at "
            f"least {ess:,.0f}, {sum(self.divergences)} divergences; latents: {', '.join(self.draws)}"
            + (f"; NOT TO BE BELIEVED: {'; '.join(self.problems)}" if self.problems else "")
        )


class UnreliableReference(ArithmeticError):
    """The draws are not to be believed. `.reference` holds them all the same."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(
            f"{'; '.join(reference.problems)}. .reference holds the draws all the same. More draws and warmup, "
            f"accept=0.95 or more, or another way to write the model (non-centred: z = mean + sd * e) usually help; "
            f"of several modes that are far apart no number of draws finds the weights"
        )
        self.reference = reference


def _worst(site: str, values: torch.Tensor) -> tuple[float, str]:
    """(the largest of the site's numbers, what it is called); what is not a number is infinite."""
    values = values.nan_to_num(math.inf, posinf=math.inf)
    labels = scalars(site, values.shape)
    i = int(values.argmax())
    return values.flatten()[i].item(), labels[i][1]
