"""The steps of stochastic variational inference: what is found out before the first one, and how each is taken.

Files, in the order in which to read them:

    settings.py         the arguments of a run, checked
    begin.py            the first look at the data: parameters and checks of a run
    from_rows.py        parameters that are computed from the rows
    later_rows.py       rows of a later window of streamed data
    window_batches.py   batches of data that do not fit into memory
    shares.py           what each process of a run takes of a step
    prepare.py          plan and batches of a run
    step_inputs.py      what a step reads: tensors, rows, its loss
    steps.py            the steps of a run
    together.py         steps that several processes take together
    all_rows.py         when steps on batches go on with all rows
    kept_steps.py       steps that are taken again without their Python
    bad_steps.py        steps that are skipped, counted, and at last end a run

Other rooms call: `begin`, `prepare`, `Steps`, `Settings`.
"""
