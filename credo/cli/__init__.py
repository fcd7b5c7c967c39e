"""The command line: credo list | plan NAME | fit NAME | compare NAME | demo | sweep | gather | cache.

commands.py   the command `credo`, and `list`, `plan`, `fit`, `compare`
demo.py       `credo demo`
cache.py      `credo cache`
sweep.py      `credo sweep`, `credo gather`
job.py        a command in every process of a job: one of them prints and writes
options.py    the options, and what can be said against them before anything is computed
mistakes.py   errors that the user can correct, as messages without a traceback
"""

from credo.cli.commands import main as main
