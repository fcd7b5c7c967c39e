"""One model fitted under many settings, by workers that share nothing but a folder.

Files, in the order in which to read them:

    identity.py  what tells a sweep from another: its data, the code of its model
    grid.py      the settings: the options of a fit, of which lists are taken value by value
    folder.py    the folder: a file for each setting, written in one moment, and the table of all
    turns.py     which setting is a worker's: the number of its task, or what nobody has begun
    sweep.py     the public call
"""
