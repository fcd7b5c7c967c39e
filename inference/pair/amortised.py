"""The amortised guide: a network that computes the latents of a row from the data of the row.

    q(theta, z) = q(theta) prod_n q(z_n | x_n),    z_n = T(u_n),   u_n ~ N(m(x_n), diag(s(x_n)^2))

Mean field of the latents theta that all rows share, as `mean_field.py`; m and s are one network of all the numbers that
a row has in the data (Kingma and Welling 2014; Gershman and Goodman 2014). Its size does not grow with the rows, so it
serves batches, data larger than memory, and rows that it has not seen. What it loses to a normal for each row, the
amortisation gap (Cremer, Li and Duvenaud 2018), is what the network cannot express: `variational/amortisation.py` says.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import nn
from torch.distributions import biject_to
from torch.nn.functional import softplus

from .mean_field import MeanField, mapped
from .row_features import Reading, features, readings
from .row_latents import row_dim, row_latents

WIDTH = 64  # units of a hidden layer
LAYERS = 2  # hidden
FIRST_SD = 0.1  # of the latents of rows, in unconstrained space, at the start


class Encoder(nn.Module):
    """(m, s) of a row: a linear map of its numbers, and hidden layers beside it. features (B, F) to two (B, K)."""

    def __init__(self, inputs: int, loc: torch.Tensor) -> None:
        """loc: (K,), where m starts whatever the row."""
        super().__init__()
        sizes = [inputs, *([WIDTH] * LAYERS)]
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
        self.hidden = nn.Sequential(*layers).to(loc)
        self.out = nn.Linear(WIDTH, 2 * len(loc)).to(loc)
        self.linear = nn.Linear(inputs, len(loc), bias=False).to(loc)
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.linear.weight.zero_()
            sd = loc.new_tensor(FIRST_SD)
            self.out.bias.copy_(torch.cat([loc, (sd.exp() - 1).log().expand_as(loc)]))

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        m, s = self.out(self.hidden(rows)).chunk(2, -1)
        return m + self.linear(rows), softplus(s)


class Amortised(MeanField):
    """A mean-field guide whose latents of rows come from a network of their rows."""

    def __init__(self, model: Any, *, init_loc_fn: Any) -> None:
        super().__init__(model, init_loc_fn=init_loc_fn)
        self.reads: tuple[Reading, ...] = ()  # how rows are read; empty until the first data
        self.encoder: Any = None

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        found = row_latents(self.model, args)
        self.plate, self.rows = found.plate, found.arguments
        self._model = (poutine.block(self.model, hide=list(found.sites)),)
        super()._setup_prototype(*args, **kwargs)
        self.local, starts = {}, []
        for name, site in found.sites.items():
            u = biject_to(site["fn"].support).inv(site["value"]).detach()
            event = u.dim() - len(site["fn"].batch_shape)
            at = u.dim() + row_dim(site, self.plate) - event
            one = u.movedim(at, 0).mean(0)
            self.local[name] = (
                one.shape,
                at,
                site["fn"].event_dim,
                site["fn"].support,
                tuple(site["cond_indep_stack"]),
            )
            starts.append(one.flatten())
        self.reads = self.reads or readings(args, self.rows, starts[0].dtype)
        self.encoder = Encoder(sum(one.width for one in self.reads), torch.cat(starts))

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """One draw, {site: value}. Raises ValueError for an argument without the rows that the network reads."""
        m, s = self.rows_of(*args)
        return self.drawn(m, s, *args, **kwargs)

    def rows_of(self, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(m, s) of the rows of the data, each of shape (rows, K)."""
        if self.encoder is None:
            self._setup_prototype(*args)
        m, s = self.encoder(features(self.reads, args))
        return m, s

    def at_rows(self, m: torch.Tensor, s: torch.Tensor) -> Any:
        """The guide with these m and s, of shape (rows, K), in the place of the network's."""

        def program(*args: Any) -> dict[str, torch.Tensor]:
            with self._pyro_context:  # as in a call of the guide: its other parameters are those of the store
                return self.drawn(m, s, *args)

        return program

    def drawn(self, m: torch.Tensor, s: torch.Tensor, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """One draw at these m and s, of shape (rows, K)."""
        drawn: dict[str, torch.Tensor] = super().forward(*args, **kwargs)
        plates, first = {**self.plates, self.plate: None}, 0
        for name, (shape, at, event_dim, support, stack) in self.local.items():
            last = first + shape.numel()
            loc, scale = (part[:, first:last].reshape(-1, *shape).movedim(0, at) for part in (m, s))
            first = last
            with ExitStack() as entered:
                for frame in stack:
                    if plates.get(frame.name) is None:
                        size = len(m) if frame.name == self.plate else frame.size
                        plates[frame.name] = pyro.plate(frame.name, size, dim=frame.dim)
                    entered.enter_context(plates[frame.name])
                drawn[name] = pyro.sample(name, mapped(loc, scale, biject_to(support), event_dim))
        return drawn


def read_as(guide: Any, reads: Sequence[Reading]) -> Amortised:
    """The guide, before it has run, with the constants of a fit from a file."""
    guide.reads = tuple(reads)
    found: Amortised = guide
    return found
