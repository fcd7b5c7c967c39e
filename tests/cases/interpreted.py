"""Compiled steps without a compiler: the function that would be compiled, run by Python."""

import math

import torch

from credo.inference.capture.aot import step_function


def interpreted(job):
    """In the place of `open_library`: a loop over the steps of a job, whose library is always there."""
    step = step_function(job)

    def loop(tensors, stacked, count):
        losses = []
        with torch.no_grad():
            for k in range(count):
                losses.append(step(*(t[k] for t in tensors[:stacked]), *tensors[stacked:])[0].item())
                if not math.isfinite(losses[-1]):
                    break
        return losses

    return loop
