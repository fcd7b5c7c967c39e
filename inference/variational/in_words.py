"""A fit in a few words: what it costs, when it stopped, what the codes of its labels mean."""

from collections.abc import Sequence
from typing import Any

from ..inputs.labels import listed
from ..pair.summed_out import SUMMED_OUT


def in_words(fit: Any, stepped: bool) -> str:
    """What a fit prints. stepped: whether it was found by steps."""
    codes = "; ".join(f"codes of {name}: {listed(labels)}" for name, labels in list(fit.codes.items())[:3])
    codes += "; ..." if len(fit.codes) > 3 else ""
    agreed = fit.agreement.words if fit.agreement is not None else ""
    end = "".join(f"\n     {line}" for line in (codes, agreed) if line)
    if fit.exact is not None:
        return f"Fit by closed form: {fit.exact}{end}"
    if fit.importance is not None and not stepped:
        found = fit.importance
        evidence = f"log p(data) {found.log_evidence:,.2f} ± {found.log_evidence_error:.2g} nats"
        return f"Fit by {fit.method}: {evidence}; {found.words}; stopped: {fit.stopped}{end}"
    steps = f"mean of the last {last_tenth(fit.losses):,} steps"
    loss = f"-ELBO {fit.final_loss:,.2f} nats ({steps})" if fit.losses else "no step"
    sites = ", ".join(e.site for e in fit.plan.entries if e.estimator != SUMMED_OUT) or "none planned"
    return f"Fit: {loss}; {len(fit.losses):,} steps; stopped: {fit.stopped}; latents: {sites}{end}"


def last_tenth(losses: Sequence[float]) -> int:
    """How many losses the last tenth of a run has, at least one."""
    return max(1, len(losses) // 10)
