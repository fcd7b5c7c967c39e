"""Models with their exact posteriors, one file for each theme."""

from tests.cases.posterior.chains import CHAINS
from tests.cases.posterior.counts import COUNTED, COUNTED_EITHER
from tests.cases.posterior.edges import EDGES
from tests.cases.posterior.finite import FINITE, FINITE_EITHER
from tests.cases.posterior.mixtures import MIXTURES, MIXTURES_EITHER
from tests.cases.posterior.modules import MODULES
from tests.cases.posterior.normals import NORMALS
from tests.cases.posterior.oracles import Case
from tests.cases.posterior.plates import PLATED, PLATED_EITHER
from tests.cases.posterior.scales import SCALES, SCALES_EITHER

ACCEPTED: dict[str, Case] = COUNTED | SCALES | NORMALS | MODULES | PLATED | CHAINS | FINITE | MIXTURES
EITHER: dict[str, Case] = {  # either solved correctly or refused
    **COUNTED_EITHER,
    **SCALES_EITHER,
    **PLATED_EITHER,
    **FINITE_EITHER,
    **MIXTURES_EITHER,
    **EDGES,
}
