"""Mistakes found before the first step, each with its remedy.

Files, in the order in which to read them:

    check.py           runs model and guide, and calls the checks of the other files
    suspicions.py      the checks that warn: what a sound pair could look like too
    calls.py           a model and a guide that cannot be called alike
    pyro_errors.py     errors of Pyro's, in words that name the site and the remedy
    roles.py           observations in a guide, nothing observed, nothing to learn
    agreement.py       sites of the guide that are not those of the model
    guide_support.py   draws of the guide outside of the model's support, values never drawn
    impossible.py      latents whose draws leave another site without a density
    truncated.py       parameters that torch cuts to whole numbers
    support.py         observed values outside of the support
    plate_rows.py      observed values that do not have the rows of their plates
    parameters.py      one name for two parameters, tensors that are not trained
    deltas.py          Delta sites that are computed from noise with a wrong log_density
    repeats.py         noise and counters outside of sample sites
    twice.py           data that is counted twice
    broadcast.py       models that are wrong for all values of a site at once
    gaps.py            data that are NaN or infinite
    outer.py           a column of the data that meets a vector
    misused.py         arguments that a program cannot use, when it fails
    whole_numbers.py   an index of -1, whole numbers that lose digits
    given.py           a pair on the data of a run: what it must not do with them
    rows.py            rows of a minibatch that depend on each other
    stream.py          batches that the user hands to single steps

Other rooms call: `check`, `check_given`, `find_rows`, `last_entries`.
"""
