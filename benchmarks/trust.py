"""Is the answer right, and does credo say so where it is not? Posteriors with truths, failures on purpose, scales.

    python benchmarks/trust.py posteriors    40 posteriors, nothing set: method, verdict, CPU, worst errors
    python benchmarks/trust.py failures      pairs that must fail: the verdict is never "yes", `converged` never True
    python benchmarks/trust.py corrected     `fit.corrected` within 2 Monte Carlo errors, its evidence within 3
    python benchmarks/trust.py scales        units from 1e-4 to 1e6, 1,000 sds, condition 1e6, N = 1 and 1e6
    python benchmarks/trust.py longer        SVI that says "converged", and a run ten times as long
    python benchmarks/trust.py numpyro       CPU seconds to an error, beside NumPyro's AutoMultivariateNormal
    python benchmarks/trust.py truths        makes the truths, and compares the chains with the closed forms

Without a section the first two run. `--seeds 5`; `--only NAME,NAME` (parts of names); `--guide full_rank,mean_field`.
Truths come from chains of Hamiltonian Monte Carlo or from formulas, and stay in `--truths FOLDER`: making them all
takes half an hour or more.
Errors are the largest of all numbers of all latents: of means in posterior sds, of sds relative, by 20,000 draws of
the fit (`fit.corrected` where the verdict is "corrected"), whose noise is .01 to .03. Seconds are of CPU, one thread.
"""

import argparse
import os
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import _trust_conjugate
import _trust_groups
import _trust_regressions
import _trust_shapes
import torch
from _trust_case import Error, Posterior, TooLong, draws_of, judged, worst
from _trust_corrected import corrected
from _trust_failures import Failure, failures
from _trust_longer import longer
from _trust_race import race
from _trust_scales import Scaled, problems
from _trust_truths import hmc, truth

LIMIT = 600  # seconds of a fit; a run that takes longer has not ended
SECTIONS = ("posteriors", "failures", "corrected", "scales", "longer", "numpyro", "truths")
WRONG, RIGHT, CLOSE = 0.3, 0.1, 0.05  # sds of a mean, and relative error of an sd
NOWHERE = Error(float("inf"), float("inf"), "")


class Row(NamedTuple):
    """One fit. trust: the verdict in a word, or "error" or "too long", with the words in `why`."""

    name: str
    guide: str
    seed: int
    method: str
    trust: str
    converged: bool
    seconds: float  # of CPU: the fit with what it looks at by itself
    check: float  # of CPU: `credo.check`, where the fit has not looked at itself
    steps: int
    error: Error
    why: str

    @property
    def trusted(self) -> bool:
        return self.trust in ("yes", "corrected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="parts of names, with commas")
    parser.add_argument("--guide", default="none", help="words for guides with commas: none, full_rank, mean_field")
    parser.add_argument("--truths", type=Path, default=Path(tempfile.gettempdir()) / "credo-truths")
    parser.add_argument("--numpyro", default="", help="a folder with numpyro and jax, where they are not installed")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    guides = [None if word == "none" else word for word in options.guide.split(",")]
    only, seeds = options.only.split(","), range(options.seeds)
    posteriors = [each for each in all_posteriors() if chosen(each.name, only)]
    torch.set_num_threads(1)
    warm_up()
    for section in options.sections or SECTIONS[:2]:
        print(f"\n## {section}\n", flush=True)
        if section == "posteriors":
            for guide in guides:
                posterior_totals(
                    [row for each in posteriors for row in of_posterior(each, guide, seeds, options.truths)]
                )
        elif section == "failures":
            failure_table([row for each in failures() if chosen(each.name, only) for row in of_failure(each, seeds)])
        elif section == "corrected":
            corrected(posteriors, seeds, options.truths)
        elif section == "scales":
            scale_table([row for each in problems() if chosen(each.name, only) for row in of_scales(each, seeds)])
        elif section == "longer":
            longer(lambda name: chosen(name, only), seeds)
        elif section == "numpyro":
            race(lambda name: chosen(name, only), seeds, options.truths, options.numpyro)
        else:
            all_truths(posteriors, options.truths)


def all_posteriors() -> list[Posterior]:
    parts = (_trust_conjugate, _trust_regressions, _trust_groups, _trust_shapes)
    return [each for part in parts for each in part.posteriors()]


def chosen(name: str, only: list[str]) -> bool:
    return any(part in name for part in only)


def warm_up() -> None:
    """The first fit of a process loads what the others find loaded."""
    coin = _trust_conjugate.posteriors()[0]
    for guide in (None, "full_rank"):
        judged(coin.model, guide, coin.data, 0, {}, LIMIT)


def fitted(name: str, model: Any, guide: Any, data: Any, seed: int, options: Any, moments: Any) -> Row:
    """One fit in one row, printed. moments: the truth, or None."""
    word = guide if isinstance(guide, str | None) else "its own"
    row = Row(name, str(word), seed, "", "error", False, 0.0, 0.0, 0, NOWHERE, "")
    try:
        found = judged(model, guide, data, seed, options, LIMIT)
        fit, verdict = found.fit, found.verdict
        row = row._replace(method=fit.method, converged=fit.converged, seconds=found.seconds, check=found.check)
        row = row._replace(trust=verdict.trust, steps=len(fit.losses), why=str(verdict))
        if moments is not None:
            row = row._replace(error=worst(draws_of(found, seed), moments))
    except TooLong:
        row = row._replace(trust="too long", why=f"more than {LIMIT} s")
    except Exception as error:  # whatever a fit may raise; the others run all the same
        row = row._replace(trust="error", why=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    off = f"mean {row.error.mean:6.3f} sd {row.error.sd:6.3f} {row.error.site:8}" if moments is not None else ""
    times = f"{row.seconds:6.2f} s +{row.check:5.2f}"
    print(f"{name:34} {row.guide:10} {seed} {row.method:11} {row.trust:9} {times}  {off} {row.why}"[:240], flush=True)
    return row


def of_posterior(posterior: Posterior, guide: str | None, seeds: range, folder: Path) -> list[Row]:
    try:
        moments = truth(posterior, folder).moments
    except ValueError as error:  # a truth that cannot be trusted counts for nothing
        print(f"{posterior.name:34} left out: {error}", flush=True)
        return []
    return [fitted(posterior.name, posterior.model, guide, posterior.data, seed, {}, moments) for seed in seeds]


def of_failure(failure: Failure, seeds: range) -> list[Row]:
    it = failure
    return [fitted(it.name, it.model, it.guide, it.data, seed, it.options, it.right) for seed in seeds]


def of_scales(problem: Scaled, seeds: range) -> list[tuple[Scaled, Row]]:
    it = problem
    return [(it, fitted(it.name, it.model, it.guide, it.data, seed, {}, it.moments)) for seed in seeds]


def posterior_totals(rows: list[Row]) -> None:
    """Prints what issue and results ask for, as a table of one row."""
    if not rows:
        return
    count = Counter(row.trust for row in rows)
    wrong = [f"{row.name} ({row.seed})" for row in rows if row.trust == "yes" and not row.error.within(WRONG)]
    good = sum(row.trusted and row.error.within(RIGHT) for row in rows)
    normal = [row for row in rows if row.method in ("exact", "full rank") and row.trust == "yes"]
    close = sum(row.error.within(CLOSE) for row in normal)
    median = statistics.median(row.seconds for row in rows)
    print(f"\n{len(rows)} fits, guide {rows[0].guide}: {', '.join(f'{n} {trust}' for trust, n in count.most_common())}")
    print(f"methods: {', '.join(f'{n} {method}' for method, n in Counter(row.method for row in rows).most_common())}")
    print(f"yes and beyond .3 sd or 30 %: {len(wrong)} {', '.join(wrong)}".rstrip())
    print(f"yes or corrected, and within .1 sd and 10 %: {good} of {len(rows)}, {good / len(rows):.0%}")
    print(f"exact or full rank, yes: within .05 sd and 5 %: {close} of {len(normal)}")
    print(f"CPU seconds of a fit: median {median:.2f}, largest {max(row.seconds for row in rows):.1f}")


def failure_table(rows: list[Row]) -> None:
    """Prints a line for each pair, and how many were trusted or converged though wrong."""
    print("\n| pair | yes | corrected | no | unknown | error | converged | right all the same |")
    print("|---|---|---|---|---|---|---|---|")
    wrong = {"yes": 0, "converged": 0}
    for name in dict.fromkeys(row.name for row in rows):
        some = [row for row in rows if row.name == name]
        count = Counter(row.trust for row in some)
        right = [row for row in some if row.error.within(RIGHT)]
        cells = [count[trust] for trust in ("yes", "corrected", "no", "unknown")]
        cells += [count["error"] + count["too long"], sum(row.converged for row in some), len(right)]
        print(f"| {name} | {' | '.join(map(str, cells))} |")
        wrong["yes"] += sum(row.trust == "yes" and row not in right for row in some)
        wrong["converged"] += sum(row.converged and row not in right for row in some)
    print(f"\nwrong and yes: {wrong['yes']} of {len(rows)}; wrong and converged: {wrong['converged']} of {len(rows)}")


def scale_table(rows: list[tuple[Scaled, Row]]) -> None:
    """Prints a line for each problem: errors, and steps and seconds as multiples of those of the standardised one."""
    print("\n| problem | method | verdict | error of a mean, sds | of an sd | steps | times | CPU s | times |")
    print("|---|---|---|---|---|---|---|---|---|")
    by_name: dict[str, list[Row]] = {}
    for problem, row in rows:
        by_name.setdefault(problem.name, []).append(row)
    base = {problem.name: problem.base for problem, _ in rows}
    for name, some in by_name.items():
        others = by_name.get(base[name], [])
        cells = [", ".join(sorted({row.method for row in some})), ", ".join(sorted({row.trust for row in some}))]
        cells += [f"{max(row.error.mean for row in some):.3f}", f"{max(row.error.sd for row in some):.3f}"]
        for values, beside in (
            ([row.steps for row in some], [row.steps for row in others]),
            ([row.seconds for row in some], [row.seconds for row in others]),
        ):
            middle, of_base = statistics.median(values), statistics.median(beside or [0])
            cells += [f"{middle:,.2f}".removesuffix(".00"), f"{middle / of_base:.1f}" if of_base else ""]
        print(f"| {name} | {' | '.join(cells)} |")
    right = sum(row.trusted and row.error.within(CLOSE) for _, row in rows)
    print(f"\nright within .05 sd and 5 %: {right} of {len(rows)}")


def all_truths(posteriors: list[Posterior], folder: Path) -> None:
    """Makes the truths; where there is a formula, prints how many standard errors the chains are from it."""
    for posterior in posteriors:
        try:
            if posterior.known is None:
                found = truth(posterior, folder)
                print(f"{posterior.name:34} R-hat {found.rhat:.3f}, errors up to {found.error:.3f} sds", flush=True)
                continue
            chains = hmc(posterior.model, posterior.data)
        except ValueError as error:
            print(f"{posterior.name:34} {error}", flush=True)
            continue
        off = 0.0
        for name, known in posterior.known.moments.items():
            mean, sd, mean_error, sd_error = chains.moments[name]
            off = max(off, ((mean - known.mean) / mean_error).abs().max(), ((sd - known.sd) / sd_error).abs().max())
        print(f"{posterior.name:34} R-hat {chains.rhat:.3f}, {off:.1f} standard errors from the formula", flush=True)


if __name__ == "__main__":
    main()
