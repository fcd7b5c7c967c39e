"""One network under many treatments of its uncertainty: points, posteriors over its weights, ensembles.

Files, in the order in which to read them:

    treatment.py   what a treatment is given, and what it returns
    likelihood.py  what a network says of y, classes or numbers; batches
    points.py      the plain network, by Adam
    mean_field.py  an independent normal for every weight, the guide of the pairs
    natural.py     the same normals, by natural gradients
    sparse.py      the few weights that the data need, by their means
    swag.py        the normal of the last iterates
    ensemble.py    several networks, trained at once
    rows.py        the rows of a comparison
    scores.py      scores on held-out rows, in bounded memory
    compare.py     the public call: one table of all treatments
"""
