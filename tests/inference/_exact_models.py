"""Models with their exact posteriors, by theme in `_exact_models_*`."""

from _exact_models_chains import CHAINS
from _exact_models_counts import COUNTED, COUNTED_EITHER
from _exact_models_edges import EDGES
from _exact_models_finite import FINITE, FINITE_EITHER
from _exact_models_mixtures import MIXTURES, MIXTURES_EITHER
from _exact_models_modules import MODULES
from _exact_models_normals import NORMALS
from _exact_models_plates import PLATED, PLATED_EITHER
from _exact_models_scales import SCALES, SCALES_EITHER
from _exact_oracles import Case

ACCEPTED: dict[str, Case] = COUNTED | SCALES | NORMALS | MODULES | PLATED | CHAINS | FINITE | MIXTURES
EITHER: dict[str, Case] = {  # solved rightly, or refused
    **COUNTED_EITHER,
    **SCALES_EITHER,
    **PLATED_EITHER,
    **FINITE_EITHER,
    **MIXTURES_EITHER,
    **EDGES,
}
