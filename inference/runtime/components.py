"""Connected components: which names belong together because they share something."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
Shared = TypeVar("Shared", bound=Hashable)


def connected(shared: Mapping[Name, set[Shared]]) -> list[list[Name]]:
    """The groups of names that share an element, directly or through other names.

    shared: {name: what it may share with others}; a name without elements is in no group. Within a group the names
    keep their order.
    """
    groups: list[tuple[set[Shared], set[Name]]] = []
    for name, mine in shared.items():
        if mine:
            touching = [group for group in groups if group[0] & mine]
            groups = [group for group in groups if group not in touching]
            groups.append((mine.union(*(g[0] for g in touching)), {name}.union(*(g[1] for g in touching))))
    return [[name for name in shared if name in names] for _, names in groups]
