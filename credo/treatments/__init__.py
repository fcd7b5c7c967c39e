"""One network under many treatments of its uncertainty: points, posteriors over its weights, ensembles.

Files, in the order in which to read them:

    treatment.py      what a treatment is given, and what it returns
    likelihood.py     what a network says of y, classes or numbers; batches
    points.py         the plain network, by Adam
    mean_field.py     an independent normal for every weight, the guide of the pairs
    natural.py        the same by natural gradients
    dropout.py        dropout, at fixed and at learnt rates
    dropconnect.py    weights that are left out
    sparse.py         weights that the data do not need, cut out
    last_layer.py     a Bayesian last layer, in one pass; one_pass.py: its features; softmax_layer.py, normal_logits.py:
                      its posterior for classes, the softmax of a normal
    laplace.py        the normal at the mode; curvature.py, evidence.py: its curvature and its prior
    ensemble.py       several networks, trained at once
    swag.py           the normal of the last iterates
    warm.py           any treatment from the weights of a plain fit
    chosen.py         one of several treatments, by rows held out
    tuned.py          mean field whose prior, start, KL weight and rates are chosen so
    rows.py           the rows of a comparison
    scores.py         scores on held-out rows, in bounded memory
    compare.py        the public call: one table of all treatments
"""
