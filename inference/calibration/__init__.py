"""Is the whole analysis right: simulation-based calibration of a model with its guide, over many data sets.

Files, in the order in which to read them:

    calibrate.py    the call `credo.calibrate`
    origins.py      which entries of the data the observed sites take their values from
    simulate.py     data sets drawn from a model, with their latents
    ranks.py        ranks of the truth among posterior draws
    calibration.py  the result of the call: the ranks, and what they say of each latent
    one_by_one.py   fits data sets one after another
    together.py     fits many data sets at once, where the pair allows it
    many_svi.py     SVI on many data sets at once
    many_normals.py the normals that approximate many posteriors
    many_draws.py   draws of many posteriors, counted

Other rooms call nothing here: it is the last room.
"""
