"""Pictures of a model in which each row is an image with latents of its own, such as a variational autoencoder."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from credo import plots
from credo.inference.posterior.marginals import means_and_sds
from credo.inference.variational.result import Fit
from credo.plots.style import headline
from credo.report import held_out

KINDS = ("images", "prior", "plane")
SHOWN, MEASURED, THUMBNAILS = 5, 400, 200  # images in a row; whose errors are averaged; in a plane without classes
DRAWS = 100  # of an image


def draw_images(trained: Fit, fit: Fit, rows: str, draw: Callable[..., None]) -> None:
    """Draws images, prior and plane, if each row is an image with latents of its own; nothing of another model.

    trained: the fit with the rows it was fitted to. fit: with the rows to draw, "held-out" or "training" ones.
    draw: draw(name, sentence, plot of an Axes, height in inches).
    """
    found, known = held_out.image_site(fit), held_out.image_site(trained)
    if found is None or known is None:
        return
    name, x = found
    latents = _latents(held_out.select_rows(fit, len(x), slice(0, 2000)))
    few = held_out.select_rows(fit, len(x), slice(0, MEASURED))
    x, training = (v.double().cpu() for v in (x, known[1]))
    numbers = next(iter(latents.values())).shape[1] if latents else 1
    again = {"by the fit": few.predict(DRAWS)[name].double().mean(0).cpu()} | _baselines(
        training, x[:MEASURED], numbers
    )
    components = f"{numbers} principal components" if numbers > 1 else "principal component"
    sentence = (
        f"{rows.capitalize()} images; each by its latents, by the first {components} of the training "
        f"images (PCA), and by their mean. Below each image: the root mean square error of a pixel."
    )
    draw("images", sentence, partial(_reconstructions, x[:MEASURED], again, rows), 3.9)
    made = held_out.prior_samples(few, name)
    sentence = "Images from latents that were drawn from the prior: the mean of each pixel, and a draw of the pixels."
    draw("prior", sentence, partial(_made_up, made, x[:MEASURED], training, rows), 2.2)
    if latents:
        _plane(fit, latents, x, rows, draw)


def _latents(fit: Fit) -> dict[str, torch.Tensor]:
    """{site: the means of the latents of each row, (N, K)}, of the first site that has several in each row."""
    for site, (mean, _) in means_and_sds(fit, 200, 0).items():
        if mean.dim() == 2 and mean.shape[1] >= 2 and len(mean) >= 3:
            return {site: mean.double().cpu()}
    return {}


def _baselines(training: torch.Tensor, x: torch.Tensor, numbers: int) -> dict[str, torch.Tensor]:
    """The images x by as many principal components of the training images as there are latents, and by their mean."""
    flat, rows = training.flatten(1)[:5000], x.flatten(1)
    mean = flat.mean(0)
    axes = torch.linalg.svd(flat - mean, full_matrices=False)[2][:numbers]
    projected = mean + (rows - mean) @ axes.T @ axes
    return {"PCA": projected.reshape(x.shape), "mean image": mean.expand_as(rows).reshape(x.shape)}


def _error(x: torch.Tensor, again: torch.Tensor) -> torch.Tensor:
    """The root mean square error of a pixel, for each image, (N,)."""
    return (x - again).flatten(1).square().mean(1).sqrt()


def _reconstructions(x: torch.Tensor, again: dict[str, torch.Tensor], rows: str, ax: Any) -> Any:
    errors = {label: _error(x, images) for label, images in again.items()}
    grid = torch.cat([x[:SHOWN], *(images[:SHOWN].clamp(0, 1) for images in again.values())])
    below = [""] * len(x[:SHOWN]) + [f"{error:.2f}" for one in errors.values() for error in one[:SHOWN].tolist()]
    plots.images(grid, columns=len(x[:SHOWN]), rows=[rows, *again], below=below, ax=ax)
    fit, pca, mean = (error.mean().item() for error in errors.values())
    better = sum(a < b for a, b in zip(*list(errors.values())[:2], strict=True)) / len(x)
    headline(
        ax,
        f"Error of a pixel {fit:.2f}, by PCA {pca:.2f}, by the mean image {mean:.2f}; "
        f"the fit is better than PCA on {100 * float(better):.0f} % of {len(x):,} images",
    )
    return ax


def _made_up(
    made: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, training: torch.Tensor, rows: str, ax: Any
) -> Any:
    mean, draw = (v.double().cpu() for v in made)
    plots.images(torch.cat([mean[:SHOWN], draw[:SHOWN]]), columns=len(mean[:SHOWN]), rows=["mean", "draw"], ax=ax)
    distances = [_nearest(v, training) for v in (draw, x)]
    new, own = (d / training[0].numel() ** 0.5 for d in distances)
    headline(
        ax,
        f"The nearest training image differs by {new:.2f} a pixel from a made-up image, by {own:.2f} from a {rows} one",
    )
    return ax


def _nearest(x: torch.Tensor, training: torch.Tensor) -> float:
    """The mean distance from each image to the nearest training image that is not the same one."""
    exactly = "donot_use_mm_for_euclid_dist"  # 0 between equal images, without rounding
    distances = torch.cdist(x.flatten(1)[:200], training.flatten(1)[:5000], compute_mode=exactly)
    return distances.masked_fill(distances == 0, torch.inf).amin(1).mean().item()


def _plane(fit: Fit, latents: dict[str, torch.Tensor], x: torch.Tensor, rows: str, draw: Callable[..., None]) -> None:
    ((site, means),) = latents.items()
    z, shares = _principal(means)
    axes = [f"{site}[{i}]" for i in (0, 1)]
    if means.shape[1] > 2:
        axes = [f"principal component {i} of {site} ({100 * share:.0f} %)" for i, share in enumerate(shares, 1)]
    labels = held_out.labels(fit)
    sentence = f"Latent space: the means of {site} for {len(z):,} {rows} images"
    sentence += "" if means.shape[1] == 2 else f", along the two of {means.shape[1]} directions in which they vary most"
    if labels is None:
        z, x = z[:THUMBNAILS], x[:THUMBNAILS]
        sentence = sentence.replace(f"for {len(means):,}", f"for {len(z):,}")
        draw("plane", f"{sentence}.", partial(_named, axes, z, None, x), 3.5)
    else:
        draw(
            "plane",
            f"{sentence}; colours are classes, which the model never saw.",
            partial(_named, axes, z, labels, None),
            3.7,
        )


def _named(axes: list[str], z: torch.Tensor, labels: torch.Tensor | None, x: torch.Tensor | None, ax: Any) -> Any:
    plots.plane(z, None if labels is None else labels[: len(z)], ax, images=x).set(xlabel=axes[0], ylabel=axes[1])
    if not ax.get_title():
        wide, high = z.std(0).tolist()
        headline(ax, f"These latents have sds {wide:.2f} and {high:.2f} along the axes")
    return ax


def _principal(points: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """Principal components: the projection on the first two, shape (N, 2), and the share of the variance of each."""
    if points.shape[1] == 2:
        return points, []
    centred = points - points.mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    shares = sizes[:2].square() / sizes.square().sum().clamp_min(1e-300)
    return centred @ axes[:2].T, shares.tolist()
