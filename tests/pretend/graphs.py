"""Promises about CUDA graphs, on the pretend device, whose kernels nobody can fuse: a stand-in fuses them."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import pyro.distributions as dist
import torch

import credo
from credo.inference.capture import native
from credo.inference.capture.aot import step_function
from credo.inference.runtime.replaced import attribute_replaced

from .device import NAME

CAPTURED = "captured once, compiled"


def graphs(data: tuple[torch.Tensor, ...]) -> dict[str, Callable[[], bool]]:
    """Promises. data: (x, y) of a regression with two columns."""
    from _gpu_programs import regression

    def plain(model: Any, **options: Any) -> Any:
        return fitted(model, data, **options)

    def is_taken() -> bool:
        with fusing(lambda job, inputs: step_function(job)) as asked:
            fit = plain(regression)
        return asked == [1] and fit.plan.compiled == CAPTURED and fit.losses == plain(regression).losses

    def wrong_one_is_not() -> bool:
        def wrong(job: Any, inputs: Any) -> Callable[..., list[torch.Tensor]]:
            return lambda *x: [1.001 * step_function(job)(*x)[0]]

        with fusing(wrong) as asked:
            fit = plain(regression)
        words = f"{CAPTURED}; kernels not fused: fused ones give another result"
        return asked == [1] and fit.plan.compiled == words and fit.losses == plain(regression).losses

    def refused() -> bool:
        def refuse(job: Any, inputs: Any) -> Any:
            raise NotImplementedError("no such kernel\nhere")

        with fusing(refuse) as asked:
            fit = plain(regression)
        words = f"{CAPTURED}; kernels not fused (NotImplementedError: no such kernel)"
        return asked == [1] and fit.plan.compiled == words and fit.losses == plain(regression).losses

    def none_can() -> bool:
        with patched(FUSING=0, PATIENCE=0):
            fit = plain(regression)
        return fit.plan.compiled.startswith(f"{CAPTURED}; kernels not fused (") and len(fit.losses) == 400

    def same_with_bad_steps() -> bool:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            graph, eager = (plain(sometimes_nan, particles=1, compile=compile) for compile in (True, False))
        ends = zip(graph.params.values(), eager.params.values(), strict=True)
        losses = torch.tensor(graph.losses), torch.tensor(eager.losses)
        skipped = sum("steps were skipped" in str(one.message) for one in said)
        return skipped == 2 and torch.allclose(*losses) and all(torch.allclose(a, b) for a, b in ends)

    return {
        "fused kernels are taken where they agree, once": is_taken,
        "fused kernels that give another loss are not": wrong_one_is_not,
        "a compiler that fails leaves the plain graph": refused,
        "the real compiler, which does not know this device, too": none_can,
        "a graph skips bad steps as eager steps do": same_with_bad_steps,
    }


def fitted(model: Callable[..., Any], data: tuple[torch.Tensor, ...], **options: Any) -> Any:
    pyro.clear_param_store()
    settings = {"plan": "fast", "steps": 400, "seed": 2, "progress": False, "device": NAME} | options
    return credo.fit(model, None, *data, **settings)


def sometimes_nan(x: torch.Tensor, y: torch.Tensor) -> None:
    """A regression whose density is NaN two sds of the posterior from its mean."""
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.factor("hole", torch.where(w[..., 0] > 1.3, torch.nan, 0.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


@contextmanager
def fusing(fuse: Callable[..., Any]) -> Iterator[list[int]]:
    """Kernels are fused by this function, at the first chance. Yields a list with a 1 for each time it is asked."""
    asked: list[int] = []

    def noted(job: Any, inputs: Any) -> Any:
        asked.append(1)
        return fuse(job, inputs)

    with attribute_replaced(native, "fused", noted), patched(FUSING=0, PATIENCE=0):
        yield asked


@contextmanager
def patched(**numbers: float) -> Iterator[None]:
    (name, value), *rest = numbers.items()
    with attribute_replaced(native, name, value):
        if not rest:
            yield
            return
        with patched(**dict(rest)):
            yield
