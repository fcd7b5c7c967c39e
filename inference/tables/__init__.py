"""The answers of a fit as tables, with the names that its data came with.

Files, in the order in which to read them:

    summary.py     a row for each scalar of the latents
    row_summary.py the same of given rows alone
    intervals.py   a row for each row of new data: the mean of its predictive draws, their sd, and an interval

Other rooms call: `summary`, `intervals`.
"""
