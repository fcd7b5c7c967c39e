"""How a step changes the parameters: the optimiser, its learning rate, one update.

Files, in the order in which to read them:

    optimiser.py    the optimiser of a run
    natural.py      natural gradient steps for normals, Adam for other parameters
    normals.py      which latents of a guide are normals that these steps move
    rates.py        learning rates by the names of parameters
    schedule.py     the learning rate as a function of the step
    update.py       one update of the parameters
    tables.py       tables: their rows of a batch trained, some rows looked at

Other rooms call: `optimiser`, `normals`, `update`, `Schedule`, `Rate`, `Rates`.
"""
