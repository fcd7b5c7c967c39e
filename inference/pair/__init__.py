"""A model and a guide on data: run, batched, scored, finite latents summed out.

Files, in the order in which to read them:

    pair.py           a model and a guide with their data
    mean_field.py     a normal for each latent, under the model's names
    row_latents.py    the latents of rows, which one network can infer
    row_features.py   the data of a row as numbers for a network
    amortised.py      a network that computes the latents of a row from its data
    autoguide.py      the guides that words stand for: mean field, amortised, full rank, MAP, MLE
    masked.py         latents that a mask leaves without a density
    costs.py          the log densities of a pair, site by site
    tables.py         parameters with a row for each row of the data
    batches.py        minibatches, scaled to the whole data set
    summed_out.py     finite latents summed out of the model
    elimination.py    variable elimination: sums of products over finite variables
    backward.py       joint draws of the summed latents given the data
    followers.py      finds these latents
    unused.py         parameters that no site is computed from
    laplace.py        the normal distribution around the mode, for AutoLaplaceApproximation
    ties.py           dimensions of latents that belong to columns, categories or rows of the data
    one_code.py       dimensions of latents that belong to a single category
    identity.py       what a pair on its data is, to tell it from another
    same_job.py       whether all processes of a job have the same pair, data and options
    work.py           the work of a program, counted in operators
    local_reparam.py  noise for each row in place of a Normal weight

Other rooms call: `Pair`, `run` (the costs of one run), `batch`, `to_sum_out`.
"""
