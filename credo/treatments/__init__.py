"""One network under many treatments of its uncertainty: points, posteriors over its weights, ensembles.

Files, in the order in which to read them:

    treatment.py  what a treatment is given, and what it returns
"""
