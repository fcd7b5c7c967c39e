"""What can be asked of any approximation: summaries, predictions, likelihoods.

Files, in the order in which to read them:

    approximation.py  the Protocol of an approximate posterior
    marginals.py      marginals, means and sds, the summary table
    predict.py        posterior predictive draws
    likelihood.py     log predictive density of each row

Other rooms call: `predict`, `log_likelihood`, `marginals`, `summary`.
"""
