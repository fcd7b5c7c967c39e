"""What a runner computes without a step: the loss and its gradient, on one batch, at the present parameters."""

import inspect
from typing import Any

import torch

from ..capture.same_form import Call
from ..inputs.call import parameters
from ..objective.gradients import gradients
from ..runtime.state import entered
from ..runtime.workers import averaged

REQUIRED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)  # kinds of data


def gradients_of(runner: Any, data: tuple, named: dict[str, Any]) -> dict[str, torch.Tensor]:
    """`SVI.gradients`: of several processes, their mean."""
    pair, prepared, _ = runner._begin(data_or_last(runner, data, named, "gradients"))
    with entered(prepared.state), runner._steps.all_trained():
        found = gradients(lambda: runner._steps.loss(runner._steps.batch(pair), runner._current_plan)[1])
        means = averaged(runner._steps.workers, list(found.values()))
    return dict(zip(found, means, strict=True))


def loss_of(runner: Any, data: tuple, named: dict[str, Any]) -> float:
    """`SVI.evaluate_loss`: of several processes, their mean."""
    pair, prepared, _ = runner._begin(data_or_last(runner, data, named, "evaluate_loss"))
    with entered(prepared.state), torch.no_grad():
        loss: float = runner._steps.loss(runner._steps.batch(pair), runner._current_plan)[0]
        return averaged(runner._steps.workers, [torch.tensor(loss, dtype=torch.float64)])[0].item()


def data_or_last(runner: Any, data: tuple, named: dict[str, Any], call: str) -> tuple[Any, ...]:
    """The data of a call that trains nothing; if none are given, those of the last call that did, or of the first.

    Raises ValueError, which names the call, where there are none yet and the model takes some.
    """
    if data or named:
        found: tuple[Any, ...] = runner._all(data, named)
        runner._last = runner._last or Call(data, named, None)
        return found
    if runner._last is not None:
        known: tuple[Any, ...] = runner._all(runner._last.data, runner._last.named)
        return known
    if any(p.default is p.empty and p.kind in REQUIRED for p in parameters(runner._settings.model)):
        raise ValueError(f"{call}: the runner has seen no data yet; pass them, svi.{call}(*data), or take a step first")
    return ()
