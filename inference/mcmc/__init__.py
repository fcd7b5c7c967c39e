"""Draws by NUTS to compare fits with: requirements, chains, diagnostics.

Files, in the order in which to read them:

    reference.py   the call `credo.reference`
    starts.py      where chains start, and their first mass matrix: from fitted normals
    potential.py   the density that chains walk on, recorded for all chains at a time
    nuts.py        a transition of the No-U-Turn sampler
    adaptation.py  the step size and the mass matrix during the warm-up
    chains.py      several chains at a time, their gradients taken together
    looks.py       ends a run whose draws cannot become reliable
    diagnostics.py R-hat, effective sample size, Monte Carlo errors
    result.py      the draws
    unreliable.py  the error of chains that disagree
    saved.py       draws as data for a file

Other rooms call: `reference`, `Reference`, `UnreliableReference`.
"""
