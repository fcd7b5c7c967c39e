"""What is left of a network when its weights are pruned: where to prune, and the smaller network.

Files, in the order in which to read them:

    thresholds.py  the log alpha at which pruning loses the least, by the ELBO
    layers.py      the two layers that a smaller network needs: one that picks inputs, and a sparse linear one
    flow.py        what flows through a sequence of layers: which units are constant, and which are read
    cut.py         the network without its idle units
    native.py      packed.cpp as machine code
    packed.py      a sparse network as one function
    pack.py        the layers of a smaller network as such a function
    compress.py    the network of a fit, compressed, with a table
"""
