"""One gradient estimator a file, and whether it is unbiased for a site. File names are the words that a plan prints.

Files, in the order in which to read them:

    estimator.py             what a plan asks of an estimator: the type Estimator
    recipe.py                how each site enters the objective
    pathwise.py              reparametrised gradients
    jumps.py                 whether the log density jumps along the draws
    score.py                 score function gradients, with a baseline
    enumerate.py             finite sites summed over exactly
    one_flip.py              each finite unit summed over given the others
    local.py                 local reparametrisation of Normal weights
    flipout.py               flipout: random signs for each row
    sampled.py               sites without parameters
    analytic_kl.py           the term: KL in closed form
    wrong_kl.py              closed forms of KL that disagree with draws
    sticking_the_landing.py  the term: log q along the draw only
    provenance.py            the draws that a tensor was computed from
    dependencies.py          the draws that each log density depends on
    coupled.py               plates whose rows depend on each other
    finite_sites.py          finite sites that can be summed over row by row

Other rooms call: `ESTIMATOR` of each estimator, `Recipe`, `Findings`, `dependencies`.
"""
