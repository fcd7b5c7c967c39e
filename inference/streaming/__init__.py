"""Data larger than memory: rows read by chunks, and windows of rows at random that a run keeps in memory.

Files, in the order in which to read them:

    part.py         rows of one object that the user gave, read slice by slice
    arrays.py       memory-mapped arrays
    resident.py     rows in memory, beside rows that are not
    convert.py      a chunk of rows as the tensors of the model's arguments
    source.py       the user's data as a source of chunks, where they do not fit into a window
    order.py        which rows are in which window
    windows.py      windows: resident rows of chunks at random, the next one read meanwhile

Other rooms call: `source_of`, `Source`, `rows_of_window`, `Windows`, `Window`.
"""
