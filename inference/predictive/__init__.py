"""Predictions of any approximation in bounded memory, likelihoods of rows, and what ArviZ takes.

Files, in the order in which to read them:

    predict.py      posterior predictive draws
    latents.py      draws of the latents of new rows, by a guide that computes them
    few_rows.py     few rows in the place of the many of a fit
    batched.py      n draws of a prediction, of all rows or batch by batch
    row_runs.py     runs of a prediction on some of the rows, compared
    row_batches.py  whether the rows of a prediction can be drawn batch by batch
    streamed.py     draws of programs that share their latents, in pieces of bounded memory
    reduced.py      what becomes of draws, piece by piece: all of them, their mean, a function of them
    derived.py      which values a program computes from the numbers of an argument
    fresh_rows.py   rows for prior draws of a model that reads only their number
    untempered.py   a model whose rows count once, whatever the temperature of the fit
    likelihood.py   log predictive density of each row
    pointwise.py    draws with log p, log q and the log likelihood of each row
    groups.py       draws, predictions and data by ArviZ's groups
    arviz.py        a fit as ArviZ takes it

Other rooms call: `predict`, `log_likelihood`, `to_arviz`.
"""
