"""A user's program run so that nothing leaks: sites, state, generators, parameters, vmap, probes.

Files, in the order in which to read them:

    sites.py       the sites of a trace: latent, observed, plates
    reachable.py   the objects that a program can reach
    components.py  connected components of names
    parameters.py  the parameters of the current store
    generators.py  random generators, saved and restored
    defaults.py    torch's default dtype and device, set for a while
    whole_plates.py   subsampled plates run in full
    state.py       what a run owns: parameters, modules, generators
    plain_state.py    the state of a run as plain values, and back
    held.py        sites held at given values
    anew.py        observed sites drawn anew
    replaced.py    an attribute replaced for a while
    traced.py      a trace of a program, also of one that differentiates inside of itself
    escapes.py     tensor methods by which a value escapes into Python
    antithetic.py  antithetic noise
    products.py    matrix products of networks in bfloat16
    vectorise.py   many runs of a program, by vmap where it works
    interrupts.py  Ctrl-C during a call
    torchrun.py    the processes that torchrun starts join one group
    workers.py     the processes of a run, and what they tell one another
    retries.py     errors at one draw, tried again at others
    progress.py    a progress bar in a terminal or a notebook
    probes.py      parameters moved and dropout off for a while, to see how a pair behaves

Other rooms call: `latent`, `observed`, `plates`, `noise`, `entered`, `reading`, `unconstrained`, `draw`.
"""
