"""What a network says of y: classes by a softmax, numbers by a normal. Shared by the treatments that train by hand.

    classes       -log p(y_n) = -log softmax(net(x_n))[y_n]
    one output    y_n ~ N(mean y + sd y f_n, (sd y exp s)^2),   s a parameter
    two outputs   y_n ~ N(mean y + sd y f_n1, sd_n^2),   sd_n = sd y (softplus(f_n2) + 0.001)

f_n = net((x_n - mean x) / sd x): a network of numbers sees standardised columns and y, as in the pair `bnn_regression`;
a network of classes sees x as it is. Source of the second output: Nix and Weigend 1994; Lakshminarayanan et al. 2017.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from credo.models._units import mean_of, sd_of
from credo.models.bnn_regression import LEAST_SD

START = -1.0  # of s, the log of the noise's sd in sds of y
NOISE = "log noise"  # the name of s among the parameters of a network: no module can have it

Weights = Mapping[str, torch.Tensor]


class Likelihood(NamedTuple):
    """The distribution of y given the outputs of a network, in the units of the data.

    classes: whether y is classes. of_x, of_y: (mean, sd) of the columns of x and of y, (0, 1) for classes.
    noise: whether the noise is a parameter, `NOISE`, beside those of the network.
    """

    classes: bool
    of_x: tuple[torch.Tensor, torch.Tensor]
    of_y: tuple[torch.Tensor, torch.Tensor]
    noise: bool

    def inputs(self, x: torch.Tensor) -> torch.Tensor:
        """What the network sees of x, shape (N, ...)."""
        return x if self.classes else (x - self.of_x[0]) / self.of_x[1]

    def loss(self, outputs: torch.Tensor, y: torch.Tensor, weights: Weights) -> torch.Tensor:
        """-1/N Σ_n log p(y_n) in nats per row, for numbers in sds of y. outputs: (N, C), (N, 1), (N, 2) or (N,)."""
        if self.classes:
            return functional.cross_entropy(outputs, y)
        mean, log_sd = self._standard(outputs, weights)
        of = (y - self.of_y[0]) / self.of_y[1]
        return -torch.distributions.Normal(mean, log_sd.exp(), validate_args=False).log_prob(of).mean()

    def predictive(self, outputs: torch.Tensor, weights: Weights) -> torch.Tensor:
        """Probabilities, shape (N, C); or mean and sd of each row in the units of y, shape (N, 2)."""
        if self.classes:
            return outputs.softmax(-1)
        mean, log_sd = self._standard(outputs, weights)
        return torch.stack([self.of_y[0] + self.of_y[1] * mean, self.of_y[1] * log_sd.exp()], -1)

    def _standard(self, outputs: torch.Tensor, weights: Weights) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and the log sd of each row, both of shape (N,), in sds of y."""
        f = outputs.reshape(len(outputs), -1)
        if self.noise:
            return f[:, 0], weights[NOISE].expand(len(f))
        return f[:, 0], (functional.softplus(f[:, 1]) + LEAST_SD).log()


def is_classes(y: torch.Tensor) -> bool:
    """Whether y is classes, whole numbers, rather than numbers."""
    return not y.is_floating_point()


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Inside, the network is in evaluation mode, without gradients; then each layer has its own mode again."""
    modes = [(layer, layer.training) for layer in net.modules()]
    try:
        with torch.no_grad():
            net.eval()
            yield
    finally:
        for layer, training in modes:  # net.train(...) would turn on a layer that the caller has turned off
            layer.training = training


def likelihood(net: nn.Module, x: torch.Tensor, y: torch.Tensor, name: str = "y") -> Likelihood:
    """The likelihood of y, shape (N,): classes if it holds integers, else numbers. It reads the scales of x and y.

    name: of y, in errors.
    Raises ValueError for outputs of the network that do not suit y, and for labels that are not its classes.
    """
    zero, one = x.new_zeros(()), x.new_ones(())
    classes = is_classes(y)
    likely = Likelihood(classes, (zero, one), (zero, one), False)
    if not classes:
        likely = likely._replace(of_x=(mean_of(x), sd_of(x)), of_y=(mean_of(y), sd_of(y)))
    with evaluating(net):
        outputs = net(likely.inputs(x[:2]))
    shape, rows = tuple(outputs.shape), len(x[:2])
    if classes:
        if len(shape) != 2 or shape[1] < 2:
            raise ValueError(
                f"net: its output has shape {shape} for {rows} rows, wanted ({rows}, C), a logit for each class, "
                f"since y holds whole numbers; for numbers to be predicted pass y.float()"
            )
        if bool((outputs >= 0).all()) and torch.allclose(outputs.sum(-1), outputs.new_ones(()), atol=1e-5):
            raise ValueError(
                "net: its outputs are probabilities, they add up to 1, and wanted are logits, of which the softmax is "
                "taken; leave out the softmax at its end"
            )
        if int(y.min()) < 0 or int(y.max()) >= shape[1]:
            raise ValueError(
                f"{name}: got classes from {int(y.min())} to {int(y.max())}, wanted 0 to {shape[1] - 1}, since the net "
                f"has {shape[1]} outputs; number the classes from 0"
            )
        return likely
    if shape not in ((rows,), (rows, 1), (rows, 2)):
        raise ValueError(
            f"net: its output has shape {shape} for {rows} rows, wanted ({rows}, 1), the mean of y, or ({rows}, 2), "
            f"mean and noise, since y holds floating point numbers; for classes pass y.long()"
        )
    return likely._replace(noise=shape != (rows, 2))


def start(likely: Likelihood, like: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parameters beside those of the network before the first step: {`NOISE`: shape ()} or none."""
    return {NOISE: like.new_full((), START)} if likely.noise else {}


def adam(groups: Iterable[Any], lr: float) -> torch.optim.Adam:
    """Adam with one kernel for a whole parameter, groups as torch's. Complex parameters have no such kernel."""
    groups = list(groups)
    leaves = [w for group in groups for w in (group["params"] if isinstance(group, dict) else [group])]
    return torch.optim.Adam(groups, lr=lr, fused=not any(w.is_complex() for w in leaves))


def batches(rows: int, batch_size: int, steps: int, seed: int, device: torch.device) -> Iterator[torch.Tensor]:
    """The rows of each step, shape (B,), B = min(batch_size, rows): every row once before any comes again.

    The order depends on the seed alone, not on the device.
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(batch_size, rows)
    order = torch.empty(0, dtype=torch.int64, device=device)
    for _ in range(steps):
        if len(order) < size:  # the rows that are left come first
            order = torch.cat([order, torch.randperm(rows, generator=generator).to(device)])
        yield order[:size]
        order = order[size:]
