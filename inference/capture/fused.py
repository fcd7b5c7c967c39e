"""A recorded step and its update as few kernels: Inductor fuses operators that a CUDA graph would launch one by one.

    (parameters, their optimiser's state, baselines, per-step inputs) -> the same a step later, and the loss

The result computes what `aot.step_function` of the same job computes, with the same random numbers. Compiling takes the
run's own process, since a library for a GPU would need NVIDIA's toolkit, and Triton needs none.
"""

import importlib
import warnings
from collections.abc import Callable

import torch

from .aot import SETTINGS, CompileJob, step_function

# Casts are those of the program: bf16 is rounded where eager code rounds it, though the kernel keeps more digits.
OPTIONS = {name: value for name, value in SETTINGS.items() if name != "cpp_wrapper"} | {"emulate_precision_casts": True}


def fused(job: CompileJob, inputs: list[torch.Tensor]) -> Callable[..., list[torch.Tensor]]:
    """The step of a job as a function of all tensors of `CompiledInputs`, which it changes in place; [the loss].

    inputs: tensors of the form of the job's, which are not changed. Compiling takes seconds. Raises what torch's
    compiler raises.
    """
    inductor, config = (importlib.import_module(name) for name in ("torch._inductor", "torch._inductor.config"))
    graphs = importlib.import_module(f"{__package__}.plain_graph")
    options = OPTIONS | {"_post_fusion_custom_pass": graphs.draws_in_order}
    with torch.no_grad(), config.patch(options), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of torch's own deprecations
        compiled: Callable[..., list[torch.Tensor]] = inductor.compile(
            graphs.plain_graph(step_function(job), inputs), inputs
        )
        return compiled
