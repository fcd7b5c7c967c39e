"""A step recorded as a graph, replayed, and compiled. This room knows no pair and no ELBO.

Files, in the order in which to read them:

    captures.py         decides which steps are replayed and which run eagerly
    signature.py        what a recording depends on
    outside.py          numbers that a program reads from outside of itself
    gather.py           indexing by an integer tensor, in a form that can be recorded
    reads.py            values that Python reads from the data
    tape.py             the operators that a program calls, written into a graph
    record.py           a program recorded as a graph of torch operators
    row_tables.py       tables of which a step changes only the rows of its batch
    replay.py           a step replayed, and checked against its program
    optimiser_state.py  the optimiser's state, exchanged with compiled steps
    native.py           compiled steps on the tensors of a run
    same_form.py        whether a call has arguments of the same form as the last
    resident.py         parameters and moments that stay where compiled steps change them
    again.py            the last compiled step, taken again without its Python
    cache.py            the folder of compiled steps, and what in it is safe to use
    compiler.py         the compiler's process, and the libraries that it made
    aot.py              the program that compiles a recorded step
    rules.py            the updates of parameters that are compiled
    plain_graph.py      the operators of a step, which Inductor compiles
    build.py            the library of a step, from the C++ that torch's compiler generates
    loop.cpp            the loop over compiled steps
    cuda_graph.py       a recorded step as a CUDA graph
    fused.py            its operators as few kernels

Other rooms call: `Captures` for the steps of a run, `record` for any program of tensors.
"""
