"""Whether an approximate posterior can be trusted, in one line."""

import math
from html import escape
from typing import NamedTuple

YES, CORRECTED, NO, UNKNOWN = "yes", "corrected", "no", "unknown"


class Verdict(NamedTuple):
    """Whether a fit can be trusted: what `credo.check` returns and `fit.verdict` holds. Printed it is one line.

    trust: "yes", its means and sds are right; "corrected", they are not, but weighted draws are: `fit.corrected(n)`;
        "no", it is wrong, or has not converged; "unknown", nothing here can tell.
    k_hat: Pareto k-hat of the importance weights of draws of the guide; NaN where there are none. Above 0.7 the guide
        misses a part of the posterior, unless the weights are even: then the shape of their tail means nothing.
        Below it the sds of the guide can still be wrong, and `reasons` says so.
    reasons: why, the most important one first. remedy: what to try next; "" where there is nothing to mend.

    >>> from credo.inference.posterior.verdict import Verdict
    >>> Verdict("no", 0.9, ("site 'tau': its sd is 40% too small",), "take guide='full_rank'")
    trust: no (site 'tau': its sd is 40% too small; k-hat 0.90); next: take guide='full_rank'
    """

    trust: str
    k_hat: float
    reasons: tuple[str, ...]
    remedy: str

    def __repr__(self) -> str:
        said = any("k-hat" in reason or "even weights" in reason for reason in self.reasons)
        k_hat = [] if math.isnan(self.k_hat) or said else [f"k-hat {self.k_hat:.2f}"]
        why = "; ".join([*self.reasons, *k_hat])
        return f"trust: {self.trust}{f' ({why})' if why else ''}{f'; next: {self.remedy}' if self.remedy else ''}"

    def _repr_html_(self) -> str:
        """The line as a paragraph, which a notebook breaks into lines."""
        return f"<p>{escape(repr(self))}</p>"


def not_looked_at(error: BaseException) -> str:
    """Why a fit was not looked at, in words: an error of the user's program."""
    first = str(error).partition("\n")[0]
    return f"not looked at: {type(error).__name__}{': ' if first else ''}{first}"
