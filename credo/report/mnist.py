"""MNIST beside the built-in digits: larger images for the page, where the folder of CREDO_DATA has them."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import credo
from credo.models import vae
from credo.models._nets import perceptron
from credo.pairs import Pair
from credo.report.gallery import pen
from credo.report.of_images import draw_images
from credo.report.vector import Picture

ROWS, TEST, STEPS, BATCH, RATE = 10_000, 1000, 1500, 100, 0.002  # some 15 s on one core


def mnist_pictures(pair: Pair, out: Path, seed: int = 0, steps: int = STEPS) -> list[Picture]:
    """Fits the pair `vae` to images of MNIST and draws reconstructions and made-up images into `out`.

    Nothing for another pair, and where CREDO_DATA has no mnist.npz: nothing is downloaded.
    """
    folder = os.environ.get("CREDO_DATA")
    if pair.name != "vae" or not folder or not Path(folder, "mnist.npz").is_file():
        return []
    data = credo.data.mnist()
    x, x_test = vae.ink(data.x[:ROWS]), vae.ink(data.x_test[:TEST])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for the weights that the networks start with
        nets = perceptron(vae.LATENTS, x.shape[1]), perceptron(x.shape[1], 2 * vae.LATENTS)
    size = min(BATCH, len(x))
    fit = credo.fit(pair.model, pair.guide, *nets, x, steps=steps, batch_size=size, lr=RATE, seed=seed, progress=False)
    drawn: list[Picture] = []
    draw = pen(out, drawn)
    there = dataclasses.replace(fit, data=(*fit.data[:-1], x_test.to(fit.data[-1])))

    def named(name: str, sentence: str, plot: Callable[..., Any], height: float) -> None:
        def titled(ax: Any) -> Any:
            plot(ax=ax).set_title(f"MNIST: {ax.get_title()}")
            return ax

        if name != "plane":
            draw(f"mnist_{name}", f"{len(x):,} training images, {steps:,} steps. {sentence}", titled, height)

    draw_images(fit, there, "held-out", named)
    return drawn
