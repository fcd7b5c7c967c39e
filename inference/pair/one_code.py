"""Which dimensions of latents belong to the codes of a single group: those that grow when there is a second one.

d log p(y_n | z) / dz_k = 0  for all rows n of other groups than k
"""

from pyro import poutine

from ..inputs.axes import Axis
from ..runtime.sites import latent, observed
from .ties import Place, Run, confirmed


def grown(axis: Axis, run: Run) -> frozenset[Place]:
    """The places (site, dimension) that get a second entry, for the rows of a second code; none where it is not so."""
    if axis.kind != "codes" or len(axis.labels) != 1:
        return frozenset()
    data = list(run.data)
    for i, column in axis.where:
        data[i] = data[i].clone()
        codes = data[i] if column is None else data[i][:, column]
        codes[1::2] = 1
    trace = poutine.trace(run.model).get_trace(*data)
    found, held = set(), dict(run.values)
    for name, value in run.values.items():
        shape = latent(trace)[name]["value"].shape
        dims = [d for d, sizes in enumerate(zip(value.shape, shape, strict=True)) if sizes == (1, 2)]
        if dims:
            found.add((name, dims[0]))
            held[name] = value.repeat_interleave(2, dims[0])
    two, wide = axis._replace(labels=(*axis.labels, None), used=(0, 1)), Run(run.model, tuple(data), held)
    return frozenset(place for place in found if confirmed(two, wide, frozenset(observed(trace)), frozenset({place})))
