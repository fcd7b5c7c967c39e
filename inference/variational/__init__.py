"""Stochastic variational inference: the runner, its loop, when it stops, its result. The steps: room `stepping`.

Files, in the order in which to read them:

    svi.py          the runner, `credo.SVI`
    going_on.py     what a runner needs to go on exactly, as plain values
    races.py        when plans compete in the course of a run
    running.py      what the runner does: begin on data, steps, a run, a fit of the present
    course.py       what a run is made of, and when it ends
    checkpoint.py   the file from which a run goes on exactly where it was
    streamed_fit.py the fit of data that do not fit into memory
    looks.py        the loss and its gradient, without a step
    run.py          a run from its first step to its fit
    loop.py         the loop: progress bar, Ctrl-C, bad steps
    held_out.py     rows that are held out, and end a run
    callback.py     the user's function that sees a run every so many steps
    nonfinite.py    names the site whose log density is not finite
    endings.py      when a run ends, and with which average
    in_words.py     a fit in a few words
    result.py       the result: Fit, and the error Diverged
    saved.py        a fit as data for a file
    pyro_svi.py     the runner for programs written for Pyro's SVI
    caller.py       warnings at the caller's line, and what to lower if memory is too small
    of_job.py       the look at a fit by the first of several processes
    amortisation.py what the rows of an amortised guide would gain by normals of their own

Other rooms call: `SVI`, `Fit`, `Diverged`.
"""
