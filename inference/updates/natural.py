"""Natural gradient steps for the normals of a guide, Adam for its other parameters: an optimiser of torch's kind.

    h <- h (1 + x + x²/2),   x = rho · sd dL/dsd            h = 1 / sd², L = -ELBO in nats
    loc <- loc - rate · g / h                               g: the running mean of dL/dloc

The Fisher matrix of N(loc, sd²) is diag(h, 2 / sd²), so this needs only the ordinary gradients: sd dL/dsd / sd² is
E_q[d²(-log p) / dz²] - h (Opper and Archambeau 2009, eqs. 6 to 8). Whatever makes those gradients quieter serves it.
h knows each latent alone: where many inputs of an output are alike, the rate has a bound (`natural_step`).
Source: Shen, Daheim, Cong, Nickl, Marconi, Bazan, Yokota, Gurevych, Cremers, Khan and Möllenhoff 2024 (Variational
Learning is Effective for Large Deep Networks, algorithm 1).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ..capture.rules import adam, natural_step

BETAS = (0.9, 0.99)  # of the momentum, and of Adam
MEAN, PRECISION = 5.0, 5.0  # times the learning rate: the step of the means, and of the precisions (rho)
# By how much the terms of a batch may be scaled before the means take shorter steps: the noise of batches moves a mean
# by as much as sqrt(step · N / B / 2) of its sd. Found by the ELBOs of networks on digits and on MNIST.
QUIET = 16.0
RADIUS = 0.5  # sds: the longest step of a mean

Normal = tuple[
    int, int, str
]  # (the places of loc and of scale's leaf among the parameters, how sd depends on the leaf)


def mean_step(scaled: float) -> float:
    """The step of the means in units of the learning rate. scaled: N / B for batches of B of N rows, 1 for all rows."""
    return MEAN * min(1.0, (QUIET / scaled) ** 0.5)


def know_batches(optimiser: torch.optim.Optimizer, scaled: float) -> None:
    """The steps of the means become as short as `mean_step` wants, where a run learns of its batches at its first step.

    Other optimisers stay as they are.
    """
    if isinstance(optimiser, Natural):
        for group in optimiser.param_groups:
            group["mean"] = min(group["mean"], mean_step(scaled))


class Natural(torch.optim.Optimizer):
    """Natural gradient steps of some normals. pairs: which parameters are those of a normal; all others get Adam.

    lr: the rate of Adam. mean, precision: the steps of means and precisions in units of it. radius: sds that a mean
    moves in a step at most. Memory: a momentum for each loc, nothing for a scale, two moments for any other number.
    """

    rule = "Natural"  # the name under which compiled steps know its update

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        pairs: Sequence[Normal] = (),
        *,
        betas: tuple[float, float] = BETAS,
        eps: float = 1e-8,
        mean: float = MEAN,
        precision: float = PRECISION,
        radius: float = RADIUS,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "mean": mean, "precision": precision, "radius": radius}
        # A parameter that joins later is in a group of its own, without pairs.
        super().__init__([{"params": list(params), "pairs": [list(pair) for pair in pairs]}], {**defaults, "pairs": []})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient. A normal moves only if both of its parameters have one."""
        for group in self.param_groups:
            members, alone = group["params"], dict(enumerate(group["params"]))
            for i, j, form in group["pairs"]:
                loc, raw = alone.pop(i), alone.pop(j)
                if loc.grad is None or raw.grad is None:
                    continue
                clock = self._clock(group, (loc, raw))
                momentum = self._moment(loc, "exp_avg")
                new = natural_step(loc, raw, momentum, (loc.grad, raw.grad), form, clock, group)
                for old, value in zip((loc, raw, momentum), new, strict=True):
                    old.copy_(value)
            for p in (members[i] for i in alone):
                if p.grad is None:
                    continue
                state = p, self._moment(p, "exp_avg"), self._moment(p, "exp_avg_sq")
                new = adam(state, p.grad, self._clock(group, (p,)), group)
                for old, value in zip(state, new, strict=True):
                    old.copy_(value)

    def _clock(self, group: dict[str, Any], counted: Sequence[torch.Tensor]) -> torch.Tensor:
        """(b1^t, b2^t, the learning rate), double, after one more update of these parameters."""
        for p in counted:
            state = self.state[p]
            if "step" not in state:
                state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
            state["step"] += 1  # in place: compiled steps may count in the same tensor
        t = float(self.state[counted[0]]["step"])
        return torch.tensor([*(beta**t for beta in group["betas"]), group["lr"]], dtype=torch.float64, device="cpu")

    def _moment(self, p: torch.Tensor, name: str) -> torch.Tensor:
        state = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p)
        found: torch.Tensor = state[name]
        return found
