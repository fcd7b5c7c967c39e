"""Pairs after the kinds of Pyro's own tests, written anew, and the exact ELBO to compare with."""

from tests.cases.pyro_kinds import enumerated, invalid, parameters, plates, subsampled, weighted

RUN = {
    f"{module.__name__.rsplit('.', 1)[1]}: {name}": case
    for module in (plates, subsampled, parameters, enumerated, weighted)
    for name, case in module.CASES.items()
}
REFUSED = invalid.CASES
