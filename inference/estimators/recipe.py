"""How each latent site enters the objective: what a plan hands to the ELBO.

    -ELBO's gradient = gradient of the integrand along the draws + the parts of estimators that do otherwise

The integrand is log q(z) - log p(x, z), finite sites summed over. An estimator whose gradient does not come along the
draws (score function, one-flip) adds a `Part`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from ..pair.costs import Key, Run, Terms
from ..pair.pair import Program


class Draw(NamedTuple):
    """One run of the pair, as a `Part` sees it.

    run: the draws and the costs, nats. evaluate: another run with some draws held. new: costs that were not there when
    the plan was made. kl_weight: the weight of log q(z) - log p(z), 1 after the warm-up. lead: 1 if the first dimension
    of `run` holds the combinations of enumerated values, else 0. vectorised: whether `vmap` accepts the pair.
    """

    run: Run
    evaluate: Callable[[dict[str, torch.Tensor]], Run]
    new: list[Key]
    kl_weight: float | torch.Tensor
    lead: int
    vectorised: bool


def unchanged(guide: Program) -> Program:
    """The guide as it is."""
    return guide


class Part(NamedTuple):
    """What one estimator adds to the objective.

    of_draw: tensors computed from one draw of the guide, under `vmap`: any pytree. add: (the loss so far; the result of
    `of_draw`, with a leading dimension of particles; the moving baselines of a run with one particle, or None) -> the
    loss with this part, a scalar whose gradient counts. guide: wraps the guide before it is run.
    """

    of_draw: Callable[[Draw], Any]
    add: Callable[[torch.Tensor, Any, dict[str, torch.Tensor] | None], torch.Tensor]
    guide: Callable[[Program], Program] = unchanged


class Recipe(NamedTuple):
    """How each latent site enters the objective. The default draws every site and takes log q as it is.

    terms: how log q and log p enter the costs. values: {enumerated site: its support, shape (K, *event)}. unmoved:
    {enumerated site: the costs that it does not move}. parts: what estimators add. seen: the costs that the plan knows.
    antithetic: whether particles come in pairs whose normal noise has opposite signs (see `antithetic`).
    """

    terms: Terms = Terms()
    values: Mapping[str, torch.Tensor] = {}
    unmoved: Mapping[str, frozenset[Key]] = {}
    parts: tuple[Part, ...] = ()
    seen: frozenset[Key] = frozenset()
    antithetic: bool = False

    def valued(self) -> "Recipe":
        """The same values in expectation, without what only gradients need."""
        return Recipe(terms=Terms(kl=self.terms.kl, local=self.terms.local), values=self.values)
