"""Part `fashion` of papers.py: the networks and treatments of `_papers_mnist.py` on Fashion-MNIST; strangers are MNIST.

fashion/mlp400/TREATMENT         784-400-400-10, ReLU
fashion/lenet5/TREATMENT         LeNet-5 (20 and 50 filters)
"""

from collections.abc import Mapping
from typing import Any

from _papers_mnist import Numbers, tables_of, tasks_of
from _papers_task import Task

# Error in %, NLL in nats a row. From a table of others, read in ../shared/notes; other epochs, and all 60,000 rows.
PUBLISHED: Numbers = {"lenet5": {"VI": (10.5, 0.292), "ensemble of 10": (6.8, 0.200)}}


def tasks() -> list[Task]:
    return tasks_of("fashion")


def tables(found: Mapping[str, Mapping[str, Any]]) -> None:
    tables_of("fashion", found, PUBLISHED, {})
