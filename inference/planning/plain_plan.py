"""The choices of a plan as plain values, to be taken up again by a plan of the same pair on the same data.

What a plan knows of its pair (what is legal, how sites enter the objective) is found out anew each time.
"""

from collections.abc import Mapping
from typing import Any

from .plan import Plan
from .table import Entry

KEPT = ("particles", "variance", "microseconds", "compiled")


def plain_plan(plan: Plan) -> dict[str, Any]:
    """The rows of a plan, what was measured of it and how its steps were taken: lists, text and numbers."""
    rows = [{**entry._asdict(), "ruled_out": list(entry.ruled_out)} for entry in plan.entries]
    return {"rows": rows, "antithetic": plan.antithetic, **{name: getattr(plan, name) for name in KEPT}}


def with_plain(plan: Plan, plain: Mapping[str, Any]) -> Plan:
    """The plan with the choices that `plain_plan` returned. Raises ValueError where it has other sites."""
    here, there = ({row.site for row in plan.entries}, {row["site"] for row in plain["rows"]})
    if other := sorted(here ^ there):
        raise ValueError(f"site {other[0]!r} is in one of the two plans only")
    kept = {name: plain[name] for name in KEPT}
    rows = [Entry(**{**row, "ruled_out": tuple(row["ruled_out"])}) for row in plain["rows"]]
    return plan._replace(antithetic=bool(plain["antithetic"]), **kept).with_entries(rows)
