"""Refuses a guide whose sites are not those of the model: other names, other shapes, other plates."""

import difflib

from ..runtime.sites import Site, plates, shown_plates


def refuse_other_sites(model: dict[str, Site], guide: dict[str, Site]) -> None:
    """Raises ValueError for a site that only one of them has. model, guide: their latent sites."""
    for name in guide:
        if name not in model:
            raise ValueError(
                f"guide site {name!r} is no latent site of the model{_close(name, model)}; the model's latent sites "
                f"are {sorted(model)}. Rename it, or mark it infer={{'is_auxiliary': True}}"
            )
    for name in model:
        if name not in guide:
            raise ValueError(
                f"the guide has no site {name!r}{_close(name, guide)}, a latent site of the model; the guide's sites "
                f"are {sorted(guide)}. Add pyro.sample({name!r}, ...) to the guide"
            )


def refuse_other_shape(name: str, model: Site, guide: Site) -> None:
    """Raises ValueError for a site that has another shape in the guide, or stands outside of a subsampled plate."""
    wanted = tuple(model["fn"].batch_shape + model["fn"].event_shape)
    got = tuple(guide["fn"].batch_shape + guide["fn"].event_shape)
    if wanted != got:
        raise ValueError(
            f"site {name!r}: the guide draws shape {got}, the model wants {wanted} (plates: "
            f"{shown_plates(model, 'none')}); use the same plates and event shape in both"
        )
    for frame in model["cond_indep_stack"]:
        if frame.full_size is not None and frame.full_size > frame.size and frame.name not in plates(guide):
            raise ValueError(
                f"site {name!r}: in the model it stands in plate {frame.name!r}, which takes {frame.size} of "
                f"{frame.full_size} rows and scales their densities by {frame.full_size / frame.size:.4g}; in the "
                f"guide it stands outside of this plate, so that its log q is not scaled. Write the same plate in the "
                f"guide"
            )


def _close(name: str, others: dict[str, Site]) -> str:
    match = difflib.get_close_matches(name, others, n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""
