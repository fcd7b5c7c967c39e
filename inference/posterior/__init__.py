"""What can be asked of any approximation: summaries, predictions, likelihoods.

Files, in the order in which to read them:

    approximation.py  the Protocol of an approximate posterior
    sample.py         draws of the latents, summed ones given the data, and of deterministic sites
    marginals.py      marginals, means and sds
    summary.py        the summary table
    finite_latents.py finite latents of a prediction, given the observations of its rows
    predict.py        posterior predictive draws
    likelihood.py     log predictive density of each row

Other rooms call: `predict`, `log_likelihood`, `marginals`, `summary`.
"""
