"""Data larger than memory: rows read by chunks, and windows of rows at random that a run keeps in memory.

Files, in the order in which to read them:

    part.py         rows of one object that the user gave, read slice by slice
    order.py        which rows are in which window; seeds
    sizes.py        the size of windows and chunks, and the memory that is free
    arrays.py       memory-mapped arrays
    resident.py     rows in memory, beside rows that are not
    datasets.py     map-style Datasets and their DataLoaders
    iterables.py    iterables with a length
    parquet.py      Parquet files by row groups
    csv_file.py     CSV files by byte ranges
    convert.py      a chunk of rows as the tensors of the model's arguments
    labels.py       the labels of columns of text in all rows
    chunked.py      rows of several objects as chunks of all arguments
    source.py       the user's data as a source of chunks, where they do not fit into a window
    windows.py      windows: resident rows of chunks at random, the next one read meanwhile
    some_rows.py    the rows of many that the checks look at

Other rooms call: `source_of`, `Source`, `rows_of_window`, `Windows`, `Window`.
"""
