"""What can be asked of any approximation: draws, marginals, names of dimensions, one draw of a prediction.

Files, in the order in which to read them:

    approximation.py  the Protocol of an approximate posterior
    sample.py         draws of the latents, summed ones given the data, and of deterministic sites
    marginals.py      marginals, means and sds
    coords.py         names of dimensions, and labels of their entries
    finite_latents.py finite latents of a prediction, given the observations of its rows
    continued.py      sites held at given values, continued where a plate has grown
    row_sites.py      which sites of a model belong to the rows of its data
    given_rows.py     draws of the latents of given rows alone
    joint_rows.py     joint normal sites over rows: Gaussian processes
    local_latents.py  which latents a prediction keeps, and which it draws anew
    prediction.py     one draw of a prediction
    explained.py      errors of a model on new data, in words that name the argument
    own_store.py      a Pyro module with a parameter store of its own
    row_masks.py      factors of the inputs of layers, such as masks of each row, put into weights
    trained.py        the trained copy of a network, latent weights at their mean
    agreement.py      what the runs of several seeds found, side by side
    verdict.py        whether an approximation can be trusted, in one line
    weighted_guide.py weighted draws as a guide
    source.py         draws with their model and data, as an approximation

Other rooms call: `sample`, `marginals`, `dims_and_coords`, `labels_of`.
"""
