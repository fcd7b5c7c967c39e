"""Draws by NUTS to compare fits with: requirements, chains, diagnostics.

Files, in the order in which to read them:

    reference.py   the call `credo.reference`
    nuts.py        the chains of the No-U-Turn sampler
    diagnostics.py R-hat, effective sample size, Monte Carlo errors
    result.py      the draws, and the error of chains that disagree

Other rooms call: `reference`, `Reference`, `UnreliableReference`.
"""
