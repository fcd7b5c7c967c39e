"""Whether a run of steps has come to rest, and whether its answer holds there.

Files, in the order in which to read them:

    iterates.py     averages over blocks of steps
    convergence.py  when to stop, and the average of the iterates
    gain.py         the gain in ELBO between two points, and the gradient at one
    newton.py       Newton's steps, which show whether a longer run would move the answer
    stuck.py        parameters that get no gradient though moving them would gain
    recheck.py      pathwise sites checked again at the end
    rising.py       whether -ELBO rose on the way

Other rooms call: `Convergence`, `elbo_gain`, `better_point`, `stuck`, `jumps`, `rising`.
"""
