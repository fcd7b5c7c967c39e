"""What is wrong with a normal that was found, in words: another mode, no convergence, weights, the largest error."""

import math
from typing import Any

from ..gaussian.density import Density
from ..gaussian.full_rank import Weighed, another_mode
from ..gaussian.starts import Path

LARGE = 0.1  # error of a mean in sds, or of an sd relative to its own, that the user is told of


def doubts(normal: Any, error: float, stopped: str, weighed: Weighed, paths: list[Path], density: Density) -> list[str]:
    """What the user must know of a normal that is no good approximation, for warnings. paths: the ascents to it."""
    found, weights = [], weighed.importance
    if mode := another_mode(normal, weights.log_evidence, paths):
        share = math.exp(min(mode.elbo - weights.log_evidence, 0))
        found.append(
            f"the posterior has another mode, with about {share:.0%} of the mass of the one that the normal holds: no "
            f"normal holds both; order or restrict the latents that may change places or signs"
        )
    if stopped.startswith("not converged"):
        found.append(
            f"{stopped}: another guide or parametrisation (non-centred: z = mean + sd * e) usually helps; "
            f"credo.reference draws from the posterior itself"
        )
    if not weights.reliable:
        found.append(
            f"k-hat {weights.k_hat:.2f}, wanted at most {weights.limit:.2f}: the posterior has heavier tails or "
            f"another shape than a normal in unconstrained space, so sds and intervals can be wrong. Another "
            f"parametrisation (non-centred: z = mean + sd * e) may help; credo.reference draws from the posterior"
        )
    elif worst := _largest_error(weighed, density):
        found.append(f"{worst}, in unconstrained space, by importance weights (k-hat {weights.k_hat:.2f})")
    return found


def _largest_error(weighed: Weighed, density: Density) -> str:
    """The coordinate whose mean or sd is farthest off, in words; "" if none is by more than LARGE and three errors."""
    noise = 3 / math.sqrt(weighed.importance.ess)
    names = [name for name, shape in zip(density.names, density.shapes, strict=True) for _ in range(shape.numel())]
    ratio = weighed.sd_ratios[at := int(weighed.sd_ratios.log().abs().argmax())].item()
    if abs(math.log(ratio)) > LARGE + noise / math.sqrt(2):
        size = f"{abs(ratio - 1):.0%} too {'small' if ratio < 1 else 'large'}"
        return f"site {names[at]!r}: its sd under the normal is {size}"
    error = weighed.mean_errors[at := int(weighed.mean_errors.abs().argmax())].item()
    if abs(error) > LARGE + noise:
        return f"site {names[at]!r}: its mean under the normal is {abs(error):.2g} sds off"
    return ""
