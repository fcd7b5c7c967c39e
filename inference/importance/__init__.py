"""Importance sampling: weighted draws of a posterior, which tell whether a fit is right and correct it where it is not.

Files, in the order in which to read them:

    budget.py       the time that a look may take
    mixture.py      mixtures of normal and Student distributions: proposals
    adapted.py      a mixture fitted to its own weighted draws
    along.py        mass that a proposal misses along single latents
    chart.py        the coordinates of a density, or with the latents of groups decentred
    affordable.py   the draws and the search that its time pays for, and what is too much work anywhere
    improper.py     whether the density does not fall where the draws end
    nested.py       a normal at each of many values of the few latents that bend the others
    correction.py   weighted draws of a posterior, and whether they can be trusted
    guide_draws.py  draws of any guide with their weights
    correct_fit.py  the look at a fit: both kinds of weighted draws
    all_rows.py     the density of all rows of data that do not fit into memory, chunk by chunk
    newton.py       the mode of all rows, by Newton's steps
    near.py         log p of all rows near their modes, from some of the rows
    look_at_all_rows.py the look at a fit by all rows
    of_all_rows.py  the same where the user gives the data once more, and the corrected fit

Other rooms call: `look_at`, `look_at_normal`, `reweighted`, `seen_of_all_rows`, `corrected_by_all_rows`.
"""
