"""Is the answer right: compared with the exact posterior. The public calls stand here, after everything that they use.

Files, in the order in which to read them:

    fit.py          the calls `credo.fit` and `credo.plan`
    seeds.py        fits from several seeds: the best by its ELBO, and whether the others agree
    valley.py       whether two point estimates are at one mode: how far log p falls between them
    processes.py    calls in forked processes, whose results come back
    method.py       what `guide=None` chooses for a model, and why
    exact_guide.py  a guide that draws from a closed form
    gaussian_fit.py fits whose guide is one normal, found without steps
    family_fit.py   mean field and Pyro's autoguides of low rank, found without steps
    doubts.py       what is wrong with such a normal, in words
    judged.py       what a look at a fit says of it, in one of four answers
    check.py        the call `credo.check`: whether a fit can be trusted
    predictive.py   of networks: whether a longer run moves predictions, and whether they hold the data
    tempered.py     what a verdict says of a temperature that is not 1
    longer.py       the fit of a longer run
    moments.py      means and sds of a guide beside weighted draws
    compare.py      the call `credo.compare`: fit and exact posterior, scalar by scalar
    comparison.py   the table of that call, and how it is printed
    words.py        what is off in a row, in words
    oracle.py       where the exact posterior comes from
    evidence.py     the evidence gap, KL(q || p)
    load.py         the call `credo.load_fit`
    loaded_fit.py   a fit from its file, put into the programs that are given
    loaded_posterior.py closed forms and draws of references from their files

Other rooms call: `fit`, `plan`, `check`, `compare`, `load_fit`.
"""
