"""Mistakes found before the first step, each with its remedy.

Files, in the order in which to read them:

    check.py      runs model and guide once and compares their sites
    support.py    observed values outside of the support
    broadcast.py  models that are wrong for all values of a site at once
    rows.py       rows of a minibatch that depend on each other

Other rooms call: `check`, `find_rows`.
"""
