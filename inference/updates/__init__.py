"""How a step changes the parameters: the optimiser, its learning rate, one update.

Files, in the order in which to read them:

    optimiser.py    the optimiser of a run
    schedule.py     the learning rate as a function of the step
    update.py       one update of the parameters

Other rooms call: `optimiser`, `update`, `Schedule`.
"""
