"""The updates of parameters that are compiled: torch's Adam, AdamW and SGD, Pyro's ClippedAdam, natural gradients.

    (parameters, their gradients, moments, the clock) -> (parameters, moments) a step later

Adam: Kingma and Ba 2015, algorithm 1; AdamW: Loshchilov and Hutter 2019. `aot` loads this file by its path, also in the
compiler's process, so it imports nothing of credo.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

Clock = torch.Tensor | list[torch.Tensor]  # (b1^t, b2^t, the learning rate); lists have t for each row
State = tuple[torch.Tensor, ...]  # a parameter and its moments: of its gradient, of the square
Tensors = list[torch.Tensor]
# (parameters, gradients, first moments, second moments, clock, settings) -> the three lists that changed
Update = Callable[[Tensors, Tensors, Tensors, Tensors, torch.Tensor, dict[str, Any]], tuple[Tensors, Tensors, Tensors]]


def adam(state: State, g: torch.Tensor, clock: Clock, options: dict[str, Any], decoupled: bool = False) -> State:
    """m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g²,

    p <- p - rate / (1 - b1^t) · m / (sqrt(v / (1 - b2^t)) + eps)        decoupled: AdamW's weight decay
    """
    p, m, v = state
    (b1, b2), decay = options["betas"], options.get("weight_decay", 0.0)
    c1, c2, rate = (x.to(p.dtype) for x in _rates(clock))
    if decay:
        p, g = (p * (1 - clock[2] * decay).to(p.dtype), g) if decoupled else (p, g + decay * p)
    m, v = torch.lerp(m, g, 1 - b1), v * b2 + (1 - b2) * g * g
    return p - rate / c1 * m / (v.sqrt() / c2 + options["eps"]), m, v


def adamw(state: State, g: torch.Tensor, clock: Clock, options: dict[str, Any]) -> State:
    """Adam with p <- p (1 - rate · weight_decay) before the update, instead of a decay in the gradient."""
    return adam(state, g, clock, options, decoupled=True)


def clipped_adam(state: State, g: torch.Tensor, clock: Clock, options: dict[str, Any]) -> State:
    """Adam of gradients clamped to ±clip_norm; eps is added to sqrt(v), not to sqrt(v / (1 - b2^t))."""
    p, m, v = state
    (b1, b2), (c1, c2, rate) = options["betas"], (x.to(p.dtype) for x in _rates(clock))
    g = g.clamp(-options["clip_norm"], options["clip_norm"])
    g = g + options["weight_decay"] * p if options["weight_decay"] else g
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    return p - rate * c2 / c1 * m / (v.sqrt() + options["eps"]), m, v


def sgd(state: State, g: torch.Tensor, clock: Clock, options: dict[str, Any]) -> State:
    """m <- momentum m + (1 - dampening) g,   p <- p - rate m;   Nesterov: p <- p - rate (g + momentum m)"""
    p, *moment = state
    momentum, rate = options["momentum"], clock[2].to(p.dtype)
    g = g + options["weight_decay"] * p if options["weight_decay"] else g
    if not moment:
        return (p - rate * g,)
    m = momentum * moment[0] + (1 - options["dampening"]) * g
    return p - rate * (g + momentum * m if options["nesterov"] else m), m


STEADY = 0.5  # times (1 + b1) / (1 - b1) / F: the largest rate of natural steps of means


def natural_step(
    loc: torch.Tensor,
    raw: torch.Tensor,
    momentum: torch.Tensor,
    gradients: tuple[torch.Tensor, torch.Tensor],
    form: str,
    clock: torch.Tensor,
    options: dict[str, Any],
) -> State:
    """A natural gradient step of a normal N(loc, sd²), sd = f(raw), with precision h = 1 / sd²: (loc, raw, momentum).

        x <- rho · sd dL/dsd,   h <- h (1 + x + x²/2)
        g <- b1 g + (1 - b1) dL/dloc,   loc <- loc - rate · g / (1 - b1^t) / h

    L is -ELBO, so h + sd dL/dsd · h is E_q of its second derivative without entropy, and x²/2 keeps h positive. The
    step of loc is at most `radius` of the new sd. rho and rate are multiples of the learning rate; the rate is at most
    quarter of that at which momentum turns unstable, 2 (1 + b1) / (1 - b1) / F, where the F inputs of an output are all
    alike: h knows each weight alone, and the Hessian over h then has an eigenvalue of F.
    gradients: of loc and raw. form: "softplus", "exp", or "half_exp" for sd = exp(raw / 2).
    Source: Shen et al. 2024, algorithm 1 (h = lambda (their h + delta)); Lin, Schmidt and Khan 2020, eq. 11.
    """
    b1 = options["betas"][0]
    c1, _, lr = (x.to(loc.dtype) for x in _rates(clock))
    sd = torch.nn.functional.softplus(raw) if form == "softplus" else (raw * _slope(form)).exp()
    wide = sd / raw.sigmoid() if form == "softplus" else 1 / _slope(form)  # sd / (dsd / draw)
    x = lr * options["precision"] * wide * gradients[1]
    log_sd = -0.5 * torch.log1p(x + 0.5 * x * x)  # how much it changes
    sd = sd * log_sd.exp()
    momentum = torch.lerp(momentum, gradients[0], 1 - b1)
    rate = (lr * options["mean"]).clamp(max=STEADY * (1 + b1) / (1 - b1) / _inputs(loc))
    step = (rate / c1 * sd * momentum).clamp(-options["radius"], options["radius"]) * sd
    raw = sd + (-torch.expm1(-sd)).log() if form == "softplus" else raw + log_sd / _slope(form)
    return loc - step, raw, momentum


def natural(
    leaves: Tensors, gradients: Tensors, first: Tensors, second: Tensors, clock: torch.Tensor, options: dict[str, Any]
) -> tuple[Tensors, Tensors, Tensors]:
    """Natural gradient steps of normals, and Adam for all other parameters.

    options["pairs"]: (index of loc, index of raw, form) among the leaves. first: a moment of each leaf that is no raw;
    second: of each that is neither.
    """
    pairs = {loc: (raw, form) for loc, raw, form in options["pairs"]}
    raws = {raw for raw, _ in pairs.values()}
    new, moments, squares = list(leaves), iter(first), iter(second)
    news: tuple[Tensors, Tensors] = ([], [])
    for i, (p, g) in enumerate(zip(leaves, gradients, strict=True)):
        if i in pairs:
            raw, form = pairs[i]
            both = g, gradients[raw]
            new[i], new[raw], m = natural_step(p, leaves[raw], next(moments), both, form, clock, options)
            news[0].append(m)
        elif i not in raws:
            new[i], m, v = adam((p, next(moments), next(squares)), g, clock, options)
            news[0].append(m)
            news[1].append(v)
    return new, *news


def _each(rule: Callable[..., State]) -> Update:
    """The update of all parameters by a rule for one."""

    def update(
        leaves: Tensors,
        gradients: Tensors,
        first: Tensors,
        second: Tensors,
        clock: torch.Tensor,
        options: dict[str, Any],
    ) -> tuple[Tensors, Tensors, Tensors]:
        parts = [part for part in (leaves, first, second) if part]
        states = zip(*parts, strict=True)
        new = [rule(state, g, clock, options) for state, g in zip(states, gradients, strict=True)]
        lists = [list(part) for part in zip(*new, strict=True)]
        found = [*lists, *([[]] * (3 - len(lists)))]
        return found[0], found[1], found[2]

    return update


RULES = {"Adam": adam, "AdamW": adamw, "ClippedAdam": clipped_adam, "SGD": sgd}  # of one parameter
UPDATES: dict[str, Update] = {**{name: _each(rule) for name, rule in RULES.items()}, "Natural": natural}
LATE = 3  # an average of iterates gives the k-th the weight k^LATE: a row whose first one is far off forgets it


def row_parts(rows: torch.Tensor, shape: Iterable[int]) -> Tensors:
    """Views of the rows of a table: [the parameter, its moments, updates, visits, the average], the counts (B,).

    rows: (B, numbers of a row). shape: of a row of the parameter; moments and the average have it, too. updates: of the
    row in all; visits: those that are counted in its average.
    """
    each = math.prod(shape)
    many = (rows.shape[1] - 2) // each - 1
    *parts, steps, visits, mean = rows.split([*[each] * many, 1, 1, each], 1)
    return [*(t.view(-1, *shape) for t in parts), steps[:, 0], visits[:, 0], mean.view(-1, *shape)]


def row_step(
    rule: str, rows: torch.Tensor, g: torch.Tensor, rate: torch.Tensor, options: dict[str, Any]
) -> torch.Tensor:
    """These rows of a table, (B, numbers of a row), after one update by their gradients g, shape (B, ...).

    rate: the learning rate, shape (), double.
    Source of the average: Shamir and Zhang 2013, section 4 (polynomial decay, eta = LATE).
    """
    p, *moments, steps, visits, mean = row_parts(rows, g.shape[1:])
    steps, visits = steps + 1, visits + 1
    each = (-1, *[1] * (p.dim() - 1))
    clock = [(beta ** steps.double()).reshape(each) for beta in options.get("betas", (1.0, 1.0))]
    new = RULES[rule]((p, *moments), g, [*clock, rate], options)
    share = ((LATE + 1) / (visits + LATE)).reshape(each)
    return torch.cat([t.reshape(len(rows), -1) for t in (*new, steps, visits, torch.lerp(mean, new[0], share))], 1)


def _slope(form: str) -> float:
    """d log sd / d raw."""
    return {"exp": 1.0, "half_exp": 0.5}[form]


def _inputs(loc: torch.Tensor) -> int:
    """How many weights share an output: of a matrix or a convolution those of a row, of a vector all."""
    return max(1, loc.numel() // (len(loc) if loc.dim() > 1 else 1))


def _rates(clock: Clock) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(1 - b1^t, sqrt(1 - b2^t), the learning rate)."""
    return 1 - clock[0], (1 - clock[1]).sqrt(), clock[2]


def averaged(
    job: Any, loss: torch.Tensor, gradients: list[torch.Tensor], baselines: list[torch.Tensor], leaves: list[Any]
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """The means of a step over the processes of a run, as operators.

    It sums the vector that `averaged_step` of runtime/workers.py sums, so that a process may take a step by its graph.
    job: a `CompileJob`. leaves: every parameter, also those without a gradient.
    """
    given = iter(gradients)
    filled = [next(given) if i in job.used else torch.zeros_like(p) for i, p in enumerate(leaves)]
    each = [loss, *filled, *baselines]
    dtype = functools.reduce(torch.promote_types, [t.dtype for t in each[1:]])
    flat = torch.cat([t.reshape(-1).to(dtype) for t in each])
    groups = torch.ops._c10d_functional
    flat = groups.wait_tensor(groups.all_reduce(flat, "sum", job.settings["group"])) / job.settings["processes"]
    pieces = flat.split([t.numel() for t in each])
    loss, *rest = [piece.view(t.shape).to(t.dtype) for piece, t in zip(pieces, each, strict=True)]
    return loss, [rest[i] for i in job.used], rest[len(leaves) :]
