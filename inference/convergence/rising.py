"""Whether -ELBO rose on the way: the sign of steps that are too long, which noise alone is not.

mean of the last quarter - lowest mean of a window before it      compared with its own noise, and with the fall
"""

import torch

WINDOW = 25  # steps of a window, at least; a twentieth of a longer run
SURELY = 8.0  # standard errors, which also covers the choice of the lowest window
WAVES = 4.5  # sds of a window, by the differences of neighbouring ones: losses of steps near each other are alike
SHARE = 0.02  # of the fall from the first window to the lowest one: less is no reason to speak


def rising(losses: list[float], warmup: int) -> str:
    """By how much -ELBO rose after its lowest window, in words; empty if it did not, or nobody can tell.

    losses: of a run, nats, one a step. warmup: the number of first steps that had another objective.
    """
    known = torch.tensor(losses[warmup:], dtype=torch.float64)
    known = known[known.isfinite()]
    size = max(WINDOW, len(known) // 20)
    if len(known) < 6 * size:
        return ""
    last = known[-(len(known) // 4) :]
    before = known[: len(known) - len(last)].unfold(0, size, size)
    means, error = before.mean(1), before.std(1) / size**0.5
    low = int(means.argmin())
    steps = known[len(known) // 4 :].unfold(0, size, size).mean(1).diff()
    spread = float(steps.square().mean() / 2) ** 0.5
    rise = float(last.mean() - means[low])
    noise = float((error[low] ** 2 + last.var() / len(last)) ** 0.5)
    if rise <= max(SURELY * noise, WAVES * spread, SHARE * float(means[0] - means[low])):
        return ""
    step = warmup + low * size + size
    return f"-ELBO rose by {rise:,.0f} nats after step {step:,}"
