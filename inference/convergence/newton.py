"""Newton's steps from a point where a run seems to rest: where they gain, a longer run would have moved the answer.

    step = -|H|^{-1} g     expected gain = g . |H|^{-1} g / 2  nats     g, H: of -ELBO, from draws that share noise

|H| has the eigenvalues of H without their signs (Dauphin et al. 2014). H comes from differences of gradients: whole for
FEW parameters; for more, conjugate gradients find the step, preconditioned with the diagonal of H. Adam moves every
parameter by its learning rate, whatever the parameter's unit; Newton's step has no unit, so that it crosses what is
far or wide, and follows a valley along which noise hides the gradient. The ELBO on fresh draws accepts or refuses it.
"""

import math
from collections.abc import Callable

import torch

from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from .convergence import PRECISE
from .gain import TOLERANCE, Better, Elbo, Gain, elbo_gain, elbo_gradient

MANY = 4000  # parameters beyond which no step is tried: those of networks go on for ever
FEW = 24  # parameters up to which the whole Hessian is measured
PROBES = 4  # random directions whose second derivatives give the diagonal of the Hessian, for more parameters
ITERATIONS = 12  # of conjugate gradients
RESIDUAL = 0.1  # of the gradient, at which they end
STEPS = 24  # of Newton's, at most
NEAR = 0.1  # the distance of the differences, in units of 1 / sqrt(second derivative)
FIRST = 0.01  # the same before a second derivative is known, relative to the parameter or to 1
FLAT = 1e-8  # of the largest eigenvalue: smaller ones are taken for this
SADDLE = -0.02  # of the largest eigenvalue: a direction whose curvature is more negative leads away from a saddle
WIDEST = 10.0  # parameters that move together move less each: their distance is that of WIDEST**2 parameters
LAST_BITS = 2e-6  # of a parameter: a smaller difference is lost in single precision
TINY = 1e-30
MOST = 0.99  # of the expected gain: a parameter that promises so much moves alone, and rounding hides the others
LEAST = TOLERANCE / 2  # nats: a standard deviation that is 2 % off costs so much
FRESH, SURE = 6, 2.0  # gradients of other noise that tell what a step promises, and the errors taken off
SHORTER = 0.25  # the factor by which a step that loses is shortened
LOSSES, OUTSIDE = 2, 20  # how often, if it loses; if the ELBO there is NaN or infinite
BLURRED = 1.0  # nats: where the error of a gain is larger, and larger than what gradients promise, they decide nothing
LONGEST = 2.0**40  # of a step that gains

Gradient = Callable[[torch.Tensor, int], torch.Tensor]  # of -ELBO in nats at a point, shape (P,), with this noise
GainOver = Callable[[torch.Tensor, torch.Tensor], Gain]  # of the first point over the second


def better_point(elbo: Elbo, start: torch.Tensor, *, seed: int) -> Better | None:
    """Where Newton's steps from this point gain more than the tolerance of the run; None if they gain nothing."""

    def gain(new: torch.Tensor, old: torch.Tensor) -> Gain:
        return elbo_gain(elbo, new, old, seed=seed + 1)

    if len(start) > MANY:
        return None

    def gradient(point: torch.Tensor, which: int) -> torch.Tensor:
        return elbo_gradient(elbo, point, seed=seed + which)

    with noise(seed):
        found = descend(gradient, gain, start, Gain(0.0, 0.0, 0.0, elbo.latents).tolerance)
        if found is None:
            return None
        point, nats, furthest = found
        _, scale, _ = _towards(gradient, point, gradient(point, 0))
    names = [name for name, p in unconstrained().items() for _ in range(p.numel())]
    return Better(point, nats, names[furthest], scale)


def descend(
    gradient: Gradient, gain: GainOver, start: torch.Tensor, tolerance: float
) -> tuple[torch.Tensor, float, int] | None:
    """(Where Newton's steps end, shape (P,); their gain in nats; the index of the parameter that moved most).

    Each step must promise `tolerance` nats in all, or LEAST of one parameter, and gain more than the error of its
    gain. None if the first one does not.
    """
    point, nats, moved = start, 0.0, torch.zeros_like(start)
    for _ in range(STEPS):
        slope = gradient(point, 0)
        step, scale, unstable = _towards(gradient, point, slope)
        alone = -(scale**2) * slope  # with the diagonal of H alone: rounding may spoil the rest
        promise = -alone * slope / 2
        if not (promise.max() > LEAST or -(slope @ step) / 2 > tolerance):
            ways: tuple[torch.Tensor, ...] = () if unstable is None else (unstable, -unstable)
        else:
            ways = _ways(step, alone, promise)
        for way in ways:
            length, gained = _line_search(gradient, gain, point, way)
            if length:
                break
        else:
            break
        point, nats, moved = point + length * way, nats + gained, moved + length * way / scale
    return (point, nats, int(moved.abs().argmax())) if nats else None


def _ways(step: torch.Tensor, alone: torch.Tensor, promise: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The directions to try, the one that promises most first. promise: of each parameter alone, nats."""
    best = alone * (promise == promise.max())  # the one parameter that promises most
    return (best, step, alone) if promise.max() > MOST * promise.sum() else (step, alone, best)


def _towards(
    gradient: Gradient, point: torch.Tensor, slope: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(Newton's step, 1 / sqrt(diagonal of |H|), a direction that leads away from a saddle point or None)."""
    return (_whole if len(point) <= FEW else _conjugate_gradients)(gradient, point, slope)


def _whole(
    gradient: Gradient, point: torch.Tensor, slope: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(-|H|^{-1} slope, 1 / sqrt(diagonal of |H|), the direction of most negative curvature, None if none is).

    At a saddle point, where two latents are alike at the start, say, the gradient is zero and the curvature is not.
    """
    units = torch.eye(len(point), dtype=point.dtype, device=point.device)
    scale = FIRST / NEAR * point.abs().clamp(min=1)
    hessian = torch.zeros_like(units)
    wrong = list(range(len(point)))
    for _ in range(3):
        seen = _seen(scale, point)
        for i in wrong:
            hessian[i] = _times_hessian(gradient, point, units[i], seen) / seen[i]
        better = _scale(hessian.diagonal(), slope, point)
        wrong = [i for i in wrong if not 0.1 < (better[i] / scale[i]).item() < 10]
        scale = better
    scaled = (hessian + hessian.T) / 2 * scale[:, None] * scale
    if not scaled.isfinite().all():
        scaled = units
    values, vectors = torch.linalg.eigh(scaled)
    unstable = scale * vectors[:, 0] if values[0] < SADDLE * values[-1].abs() else None
    values = values.abs().clamp(min=FLAT * values.abs().max().item())
    return -scale * (vectors @ ((vectors.T @ (scale * slope)) / values)), scale, unstable


def _conjugate_gradients(
    gradient: Gradient, point: torch.Tensor, slope: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, None]:
    """The same for many parameters, in coordinates where the diagonal of |H| is 1; stops where the curvature is not.

    Saddle points are not looked for: the noise of many parameters leaves them.
    """
    scale = FIRST / NEAR * point.abs().clamp(min=1)
    seen = _seen(scale, point)
    for probes in (1, PROBES):
        signs = [torch.randint(0, 2, point.shape, device=point.device).to(point.dtype) * 2 - 1 for _ in range(probes)]
        diagonal = torch.stack([v * _times_hessian(gradient, point, v, seen) / seen for v in signs]).mean(0)
        scale = _scale(diagonal, slope, point)
        seen = _seen(scale, point)
    step, rest = torch.zeros_like(point), -seen * slope
    direction, size = rest, rest @ rest
    enough = RESIDUAL**2 * size
    for _ in range(ITERATIONS):
        along = seen * _times_hessian(gradient, point, direction, seen)
        curvature = direction @ along
        if not curvature > FLAT * (direction @ direction):
            break
        alpha = size / curvature
        step, rest = step + alpha * direction, rest - alpha * along
        before, size = size, rest @ rest
        if size < enough:
            break
        direction = rest + size / before * direction
    return seen * (step if step.any() else rest), scale, None


def _times_hessian(
    gradient: Gradient, point: torch.Tensor, direction: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """H times (scale * direction), from the gradients at both sides of the point."""
    most = min(WIDEST, (direction.norm(1) / direction.norm()).item())  # the square root of how many parameters move
    reach = NEAR * most / direction.norm()
    shift = reach * scale * direction
    return (gradient(point + shift, 0) - gradient(point - shift, 0)) / (2 * reach)


def _scale(diagonal: torch.Tensor, slope: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """1 / sqrt(diagonal of |H|); where that is not known, such that the step is FIRST times the parameter or 1."""
    reach = FIRST * point.abs().clamp(min=1)
    unknown = ~diagonal.isfinite() | (diagonal == 0)
    return torch.where(unknown, (reach / slope.abs().clamp(min=TINY)).sqrt(), diagonal.abs().clamp(min=TINY).rsqrt())


def _seen(scale: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """The scale, where it is not so small that a difference would be lost in single precision."""
    return scale.maximum(LAST_BITS / NEAR * point.abs())


def _line_search(gradient: Gradient, gain: GainOver, point: torch.Tensor, step: torch.Tensor) -> tuple[float, float]:
    """(How many times the step to take, 0 for none; what that gains in nats)."""
    length, losses = 1.0, 0
    for _ in range(OUTSIDE):
        found = gain(point + length * step, point)
        if _is_sure(found):
            break
        if found.nats > -2 * found.error - 2 * found.rounding:
            promise = _promise(gradient, point, step) if found.nats + 2 * found.error > 0 else 0.0
            return (length, LEAST) if promise > LEAST and found.error < max(BLURRED, promise) else (0.0, 0.0)
        losses += math.isfinite(found.nats)
        if losses > LOSSES:
            return 0.0, 0.0
        length *= SHORTER
    else:
        return 0.0, 0.0
    nats = found.nats
    while length < LONGEST and _is_sure(more := gain(point + 2 * length * step, point + length * step)):
        length, nats = 2 * length, nats + more.nats
    rounding = gain(point, point + length * step).rounding  # there; where it grows the gain is an error of it
    return (length, nats) if rounding <= max(PRECISE, found.rounding) else (0.0, 0.0)


def _is_sure(gain: Gain) -> bool:
    return gain.nats > max(2 * gain.error, 2 * gain.rounding, TOLERANCE)


def _promise(gradient: Gradient, point: torch.Tensor, step: torch.Tensor) -> float:
    """A lower bound of the gain that the step promises, in nats: gradients know better than the noisy ELBO."""
    promises = torch.stack([-gradient(point, which) @ step / 2 for which in range(1, FRESH + 1)])
    return (promises.mean() - SURE * promises.std() / FRESH**0.5).item()
