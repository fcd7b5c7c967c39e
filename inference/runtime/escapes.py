"""The tensor methods by which a value escapes from torch into Python, where nothing can follow it."""

# By each of these methods a number of the tensor becomes a Python or NumPy value.
ESCAPES = frozenset({"__bool__", "item", "__int__", "__float__", "__index__", "tolist", "numpy", "__array__"})

# These methods take the tensor apart in Python. Its parts are tensors still, but a tensor subclass loses sight of them.
TAKEN_APART = frozenset({"__contains__", "__iter__"})
