"""Gaussian posteriors in unconstrained space, without Adam, on the log joint density of a model and its gradient.

Files, in the order in which to read them:

    requirements.py     which models have one density in unconstrained space
    density.py          the log joint density of a model, its gradient and its Hessian, at one point or many
    full_rank_normal.py a normal distribution as its mean and a factor, and whitened coordinates
    ascent.py           Newton's and quasi-Newton's steps from several points at once
    starts.py           the best normal along several ascents: multi-path Pathfinder
    batch_and_match.py  the normal whose scores match those of the posterior
    natural_gradient.py the normal of least KL(q || p), by natural gradients of the ELBO
    psis.py             smoothed importance weights, Pareto k-hat, the evidence
    full_rank.py        these steps from start to end
    laplace.py          the normal at the mode
    low_rank_normal.py  a normal distribution as a scale for each latent and a few directions
    few_pairs.py        L-BFGS, for many latents
    curvature.py        a Hessian as a diagonal and few directions, by products with vectors
    low_rank.py         the normal of low rank from start to end
    arrow_normal.py     a normal distribution of global latents and of groups that are independent given them
    blocks.py           which latents of a model are such groups
    arrow_ascent.py     starting points for it, by Newton's steps with few products
    arrow_gradient.py   natural gradients for it
    fixed_draws.py      the best normal of a family by L-BFGS, on draws that stay as they are
    families.py         families that do not hold every covariance: mean field, few factors
    normal_guide.py     a Pyro guide that is a normal of low rank or one with groups; Pyro's own get a normal
    approximate.py      which of these forms a density gets
    smaller_family.py   the best normal of a density in such a family, from start to end

Other rooms call: `prepared`, `Density`, `approximate`, `laplace`.
"""
