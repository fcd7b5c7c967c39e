"""Functions of one or two distributions. This room knows no trace and no model.

Files, in the order in which to read them:

    unwrap.py       the family of a distribution; the same distribution without wrappers, masks or gradients
    summaries.py    means, sds, quantiles and labels of scalars
    finite.py       support, marginals and neighbours of finite distributions
    gaussian.py     a joint normal distribution conditioned on some of its numbers
    transformed.py  moments of transformed normals and gammas
    divergence.py   KL(q || p) in closed form
    agreement.py    KL in closed form compared with its definition
    distances.py    KL, Wasserstein and total variation distances of marginals
    simplex.py      Beta and Dirichlet draws that vmap can batch
    dirichlet.py    Beta and Dirichlet draws in double precision
    centre.py       a point of a distribution that cannot be drawn from
    uniformity.py   whether ranks are uniform: an exact p-value, and bands

Other rooms call: `kind`, `unwrapped`, `values_of`, `mean_and_sd`, `divergence`, `agreement`.
"""
