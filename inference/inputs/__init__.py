"""What a user gives (tables, arrays, text, containers, settings) as the arguments of a model.

Files, in the order in which to read them:

    call.py        the call of a model: names of its arguments, data by name, missing ones
    beside.py      the other functions in the file of a function
    places.py      lines of the user's program, and how a message names them
    labels.py      text and categories as whole-number codes
    arrow.py       tables and columns of other libraries, by the Arrow C stream
    files.py       CSV and Parquet files as tables
    columns.py     one argument's data as an array of numbers, whatever type it came in
    tables.py      tables: columns for arguments, rows of several tables paired
    group_tables.py tables with a row for each group, in the order of the codes
    missing.py     values that are not finite; observations of a prediction that are all missing
    chunks.py      iterables that give rows chunk by chunk
    datasets.py    DataLoader and Dataset as tensors; containers of the run's own
    axes.py        axes with labels: columns, categories behind codes, rows with an index
    split.py       rows held out at random
    versions.py    whether data are those of a call before, unchanged
    rounding.py    the digits that data lose in single precision
    arguments.py   the user's data converted to tensors on one device
    draws.py       the number of draws of a prediction, which may be left out

Other rooms call: `arguments`, `tensors`, `by_name`, `argument_names`, `whole_number`, `shown`.
"""
