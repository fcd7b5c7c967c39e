"""What is kept on disk: one safetensors file whose header holds JSON; no pickle, so that no file can run a program.

Files, in the order in which to read them:

    laws.py        distributions, transforms and constraints by class and fields
    values.py      values of Python, NumPy and torch as JSON and tensors, and back
    one_moment.py  a file that is there whole, or not at all
    container.py   one file: written atomically, checked by a checksum when it is read
    kept.py        the file of a run that the user asked for, and how often it is written
    noise_of_ranks.py  the generators of the processes of a job, in its file
    states.py      the parameters and networks of a run, and how they are put in place
    outline.py     data in outline: types, shapes and checksums
    absent.py      stand-ins for data that a file does not have, and what may be asked without them

Other rooms call: `described`, `restored`, `write`, `read`, `parts_of`, `place`, `refuse_without_data`.
"""
