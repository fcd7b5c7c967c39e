"""The error of chains that disagree or diverge, with its remedy: it holds their draws."""

from .result import DIVERGENT, Reference

APART = 1.2  # R-hat of chains that are in different places


class UnreliableReference(ArithmeticError):
    """The draws of `credo.reference` are unreliable: R-hat > 1.01, an effective sample size below 400, or divergences.

    reference: the draws, a `Reference`.

    >>> import credo, torch
    >>> pair = credo.load("coin_toss")
    >>> try:
    ...     credo.reference(pair.model, torch.tensor([1.0, 0.0]), draws=20, warmup=20, progress=False)
    ... except credo.UnreliableReference as error:
    ...     print(error.reference.draws["p"].shape)
    torch.Size([4, 20])
    """

    def __init__(self, reference: Reference) -> None:
        super().__init__(
            f"{'; '.join(reference.problems)}"
            + (f" ({reference.stopped})" if reference.stopped.startswith("stopped") else "")
            + f". .reference still holds the draws. {_remedy(reference)}"
        )
        self.reference = reference


def _remedy(reference: Reference) -> str:
    """What to try next, by the problem: funnels, modes, or few draws."""
    if sum(reference.divergences) > DIVERGENT * reference.count:
        return (
            "Divergences mean that the posterior narrows where a scale goes to zero: write z ~ Normal(mean, sd) as "
            "z = mean + sd * e with e ~ Normal(0, 1) (non-centred), and give scales priors away from 0; accept=0.95 or "
            "more may do"
        )
    if max(reference.mixing[name].rhat.max().item() for name in reference.draws) > APART:
        return (
            "The chains are in several modes, or too slow to meet: order or restrict latents that may change places or "
            "signs, since no number of draws finds the weights of modes that are far apart; another parametrisation "
            "(non-centred: z = mean + sd * e) helps slow chains"
        )
    return (
        "More draws and warmup, accept=0.95 or more, or another parametrisation (non-centred: z = mean + sd * e) "
        "usually help; no number of draws finds the weights of modes that are far apart"
    )
