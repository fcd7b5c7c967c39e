"""Which estimator each latent site gets, why, and the race that measures it.

Files, in the order in which to read them:

    plan.py     the plan: a row for each site
    table.py    a plan as text and as a table
    plain_plan.py    the choices of a plan as plain values, taken up again
    choose.py   the choice among the legal estimators
    legal.py    the list of estimators; which of them are unbiased at a site
    reasons.py  the reason for a choice, in words
    few_rows.py the rows on which it is made
    race.py     plans compete by variance times work
    place.py    the device of a run whose user names none

Other rooms call: `make_plan`, `Plan`, `race`.
"""
