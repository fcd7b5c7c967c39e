"""Deep ensembles: the average of networks trained alone, from weights and with batches of their own.

    p(y | x) = 1/M Σ_m p(y | x, w_m)         M = 5 (Lakshminarayanan, Pritzel and Blundell 2017, section 2.4)

The first network starts at the weights that it has, the others where `reset_parameters` of their layers puts them. All
are trained at once as one batch of networks (torch.func.vmap), or one after the other where a layer draws or counts
while it trains (dropout, batch normalisation), cannot be batched, or is a convolution on a CPU, where a batch of
networks takes 1.6 times as long (LeNet-5).
"""

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.modules.conv import _ConvNd

from credo.inference.runtime.defaults import choose_device
from credo.treatments.likelihood import NOISE, adam, batches, likelihood, start
from credo.treatments.points import refuse_infinite, size, train
from credo.treatments.treatment import Budget, Trained

NETWORKS = 5
PROBE = 4  # rows on which it is tried whether networks can be batched


def ensemble(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, *, networks: int = NETWORKS) -> Trained:
    """So many networks, each with the whole budget. x: shape (N, ...). y: shape (N,). A prediction has S = networks.

    Raises ValueError for a network whose parameters are all frozen.
    """
    if not any(w.requires_grad for w in net.parameters()):
        raise ValueError(f"net: got {type(net).__name__} without parameters to train; wanted some that are not frozen")
    nets = members(net, networks, budget.seed)
    same = unmoved(nets)
    device = choose_device(budget.device)
    nets, x, y = [one.to(device) for one in nets], x.to(device), y.to(device)
    likely = likelihood(nets[0], x, y)
    slower = device.type == "cpu" and any(isinstance(layer, _ConvNd) for layer in net.modules())
    together = not slower and can_be_batched(nets, likely.inputs(x[:PROBE]))
    if together:
        trained = _together(nets, x, y, budget)
    else:
        trained = [train(one, x, y, budget._replace(seed=budget.seed + m))[1:] for m, one in enumerate(nets)]

    def predict(x: torch.Tensor, draws: int) -> torch.Tensor:
        x = likely.inputs(x.to(device))
        with torch.no_grad():
            return torch.stack([likely.predictive(one(x), beside) for one, beside in trained])

    words = f"{networks} networks, {budget.steps:,} steps each, {'at once' if together else 'one after the other'}"
    if same:
        words += f"; all start at the same {', '.join(same)}, which no `reset_parameters` moves"
    return Trained(predict, sum(size(*one) for one in trained), words)


def ensemble_of_equal_cost(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget) -> Trained:
    """Five networks that share the steps of one: the cost of the plain network."""
    return ensemble(net, x, y, budget._replace(steps=max(1, budget.steps // NETWORKS)))


def members(net: nn.Module, networks: int, seed: int) -> list[nn.Module]:
    """Copies of a network: the first as it is, each other at the weights with which its layers begin.

    Frozen parameters (requires_grad=False) stay as they are, and so do those of layers without `reset_parameters`.
    """
    nets = [copy.deepcopy(net) for _ in range(networks)]
    with torch.random.fork_rng([]):
        for m, one in enumerate(nets[1:], start=1):
            torch.manual_seed(seed + m)
            one.cpu()  # the same weights on every device
            frozen = {name: w.detach().clone() for name, w in one.named_parameters() if not w.requires_grad}
            for layer in one.modules():
                if (reset := _resets(layer)) and any(w.requires_grad for w in layer.parameters()):
                    reset()
            one.load_state_dict(frozen, strict=False)
    return nets


def unmoved(nets: Sequence[nn.Module]) -> list[str]:
    """The names of the trained weights (matrices and convolutions) at which all networks start; none of a single one.

    Such are parameters of one's own, and weights under a parametrisation, as weight_norm's, which sets them anew.
    """
    pairs = zip(nets[0].named_parameters(), nets[-1].parameters(), strict=True)
    wide = [(name, a, b) for (name, a), b in pairs if a.requires_grad and a.dim() > 1]
    return [name for name, a, b in wide if len(nets) > 1 and torch.equal(a.cpu(), b.cpu())]


def can_be_batched(nets: Sequence[nn.Module], x: torch.Tensor) -> bool:
    """Whether the networks, in training mode, compute on x as one batch what each computes alone, twice the same."""
    with torch.random.fork_rng([x.device] if x.is_cuda else []), torch.no_grad():
        copies = [copy.deepcopy(one).train() for one in nets]
        before = [buffer.clone() for one in copies for buffer in one.buffers()]
        alone = torch.stack([one(x) for one in copies])
        again = torch.stack([one(x) for one in copies])
        after = [buffer for one in copies for buffer in one.buffers()]
        if not torch.equal(alone, again) or not all(torch.equal(*pair) for pair in zip(before, after, strict=True)):
            return False
        try:
            with warnings.catch_warnings():  # an operation that is only looped over gains nothing, and warns
                warnings.filterwarnings("error", message="There is a performance drop")
                weights, buffers = stack_module_state(list(copies))
                batched = vmap(_called(copies[0]))(weights, buffers, x.expand(len(nets), *x.shape))
        except (RuntimeError, NotImplementedError, ValueError, UserWarning):  # torch has no rule for an operation
            return False
        return torch.allclose(alone, batched, rtol=1e-3, atol=1e-4)


def _together(
    nets: Sequence[nn.Module], x: torch.Tensor, y: torch.Tensor, budget: Budget
) -> list[tuple[nn.Module, dict[str, torch.Tensor]]]:
    """The trained networks and the parameters beside each: Adam of a stack is Adam of each of its rows."""
    likely = likelihood(nets[0], x, y)
    nets = [one.train() for one in nets]
    weights, buffers = stack_module_state(list(nets))
    frozen = {name for name, w in nets[0].named_parameters() if not w.requires_grad}
    leaves = {name: w.detach().requires_grad_(name not in frozen) for name, w in weights.items()}
    leaves |= {k: v.expand(len(nets)).clone().requires_grad_() for k, v in start(likely, likely.of_y[0]).items()}
    optimiser = adam([w for w in leaves.values() if w.requires_grad], budget.lr)
    called, seen = _called(nets[0]), likely.inputs(x)

    def loss_of(leaf, buffer, x, y):  # type: ignore[no-untyped-def]  # vmap's own tensors
        weight = {name: w for name, w in leaf.items() if name != NOISE}
        return likely.loss(called(weight, buffer, x), y, leaf)

    streams = [batches(len(x), budget.batch_size, budget.steps, budget.seed + m, x.device) for m in range(len(nets))]
    for several in zip(*streams, strict=True):
        rows = torch.stack(several)
        losses = vmap(loss_of)(leaves, buffers, seen[rows], y[rows])
        optimiser.zero_grad()
        losses.sum().backward()
        optimiser.step()
    refuse_infinite(losses)
    found = []
    for m, one in enumerate(nets):
        values = {name: w.detach()[m].clone() for name, w in leaves.items()}
        one.load_state_dict({name: w for name, w in values.items() if name != NOISE}, strict=False)
        beside = {name: w for name, w in values.items() if name == NOISE}
        found.append((one.eval().requires_grad_(False), beside))
    return found


def _called(net: nn.Module):  # type: ignore[no-untyped-def]  # as above
    """The network as a function of its weights, its buffers and x."""
    skeleton = copy.deepcopy(net)
    return lambda weights, buffers, x: functional_call(skeleton, (weights, buffers), (x,))


def _resets(layer: nn.Module):  # type: ignore[no-untyped-def]
    """The method that puts a layer's parameters where they begin; None if it has none."""
    return getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
