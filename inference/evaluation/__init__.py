"""Is the answer right: compared with the exact posterior. The public calls stand here, after everything that they use.

Files, in the order in which to read them:

    fit.py          the calls `credo.fit` and `credo.plan`
    method.py       what `guide=None` chooses for a model, and why
    exact_guide.py  a guide that draws from a closed form
    gaussian_fit.py fits whose guide is one normal, found without steps
    check.py        the call `credo.check`: whether a fit can be trusted
    moments.py      means and sds of a guide beside weighted draws
    compare.py      the call `credo.compare`: fit and exact posterior, scalar by scalar
    comparison.py   the table of that call, and how it is printed
    words.py        what is off in a row, in words
    oracle.py       where the exact posterior comes from
    evidence.py     the evidence gap, KL(q || p)
    beside.py       the other functions in the file of a function
    calibrate.py    the call `credo.calibrate`: simulation-based calibration
    origins.py      which entries of the data the observed sites take their values from
    simulate.py     data sets drawn from a model, with their latents
    ranks.py        ranks of the truth among posterior draws
    calibration.py  the result of that call: the ranks, and what they say of each latent
    one_by_one.py   fits data sets one after another
    together.py     fits many data sets at once, where the pair allows it
    many_svi.py     SVI on many data sets at once
    many_normals.py the normals that approximate many posteriors
    many_draws.py   draws of many posteriors, counted

Other rooms call: `fit`, `plan`, `check`, `compare`, `calibrate`.
"""
