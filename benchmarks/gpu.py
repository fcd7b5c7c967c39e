"""Is a fit right on a GPU, and how fast is it?

    python benchmarks/gpu.py        some ten minutes on one GPU with a fast CPU; without a GPU it only says so
    python benchmarks/gpu.py programs | pairs | hand     one part of it

Every pair, and programs as people write them (`dist.Normal(0.0, 5.0)`, `torch.zeros(2)`, a constant made outside), with
the words for guides, autoguides, batches, summed-out latents. For each, in one process:

- parity: the eager losses of STEPS steps on the GPU and on the CPU with the same noise (drawn on the CPU), largest
  relative difference; and the recorded losses beside the eager ones on the GPU, with the GPU's own noise;
- whether its step is a CUDA graph and, if not, why;
- for the pairs, microseconds of a step, medians of alternating rounds: Pyro's eager SVI step (one particle), credo
  eager, credo recorded; and how many times faster than Pyro the last is.

Then the coin toss fitted until it stops by itself, compared with the exact posterior; and networks of real size beside
the same networks by hand in torch, compiled, with fused Adam, as one CUDA graph (see `_gpu_by_hand.py`), in float32 and
in bf16, with the share of a bare matrix product's rate. Exit status 1 if a loss differs by more than CLOSE from the
CPU's or RECORDED from the eager one, if a step is no CUDA graph, or the coin is farther than NEAR from the posterior.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyro
import torch
from _gpu_by_hand import WORKS, Steps, bare_rate, by_hand, credos, flops, rows
from _gpu_programs import Program, programs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

import credo
from credo.inference.capture import native

STEPS, LONG = 10, 30  # LONG: the first 20 are eager, the others recorded
ROUNDS, SECONDS = 3, 0.3  # of the timings
HAND = 150.0  # seconds of the part `hand`: no network is begun that would not end within them
LAPS = 500  # steps of one call beside the step by hand: a call of credo's checks the pair again
AT_ONCE = (20, 20, 1000)  # steps of one call of each contender: a call of credo's checks the pair again
CLOSE, RECORDED, TIMES = 1e-4, 1e-5, 10
NEAR = 0.01  # nats between the fitted coin and the exact posterior


class Result(NamedTuple):
    name: str
    eager: float  # largest relative difference of the eager losses from the CPU's
    recorded: float  # and of the recorded losses from the eager ones on the GPU
    how: str

    @property
    def right(self) -> bool:
        return self.eager < CLOSE and self.recorded < RECORDED and self.how == "captured once, compiled"


def main() -> None:
    if not torch.accelerator.is_available():
        print("no GPU here: nothing to measure")
        return
    begun = time.perf_counter()
    device = torch.accelerator.current_accelerator()
    assert device is not None
    module = torch.get_device_module(device)
    print(f"{getattr(module, 'get_device_name', lambda: device.type)()}, torch {torch.__version__}")
    warnings.simplefilter("ignore")
    parts = sys.argv[1:] or ("programs", "pairs", "hand")
    wrong = same_as_on_the_cpu(device) if "programs" in parts else []
    wrong += pairs_beside_pyro(device, module.synchronize) if "pairs" in parts else []
    wrong += networks_by_hand(device, module.synchronize) if "hand" in parts else []
    print(f"wrong, or no CUDA graph: {', '.join(wrong) or 'none'}")
    print(f"{time.perf_counter() - begun:.0f} s in all")
    sys.exit(bool(wrong))


def same_as_on_the_cpu(device: torch.device) -> list[str]:
    """Prints the parity of every program; returns those that are wrong."""
    print(f"\n{'program':<34}{'from the CPU':>14}{'recorded':>12}  step", flush=True)
    wrong = []
    for program in programs():
        try:
            result = parity(program, device)
        except Exception as error:  # whatever a device may raise; the others are measured all the same
            print(f"{program.name:<34}  {type(error).__name__}: {str(error).splitlines()[0][:140]}", flush=True)
            wrong.append(program.name)
            continue
        print(f"{result.name:<34}{result.eager:14.1e}{result.recorded:12.1e}  {result.how}", flush=True)
        if not result.right:
            wrong.append(program.name)
    return wrong


def pairs_beside_pyro(device: torch.device, synchronize: Callable[[], None]) -> list[str]:
    """Prints the speed of every pair, and the coin toss fitted to its own stop, which is returned if it is wrong."""
    print(f"\n{'pair, µs a step':<26}{'Pyro, eager':>14}{'eager':>12}{'recorded':>12}{'times faster than Pyro':>26}")
    slow = []
    for name in credo.names():
        pyros, eager, recorded = speeds(name, device, synchronize)
        print(f"{name:<26}{pyros:14,.0f}{eager:12,.0f}{recorded:12,.0f}{pyros / recorded:26.1f}", flush=True)
        if pyros < TIMES * recorded:
            slow.append(name)
    print(f"less than {TIMES} times as fast as Pyro: {', '.join(slow) or 'none'}")
    pair = credo.load("coin_toss")
    fit = credo.fit(pair.model, pair.guide, *pair.data(), device=device, progress=False)
    kl = credo.compare(fit)["kl"].max()
    print(f"coin toss, own stop: {len(fit.losses):,} steps, {fit.stopped}; KL {kl:.1e} nats", flush=True)
    return ["coin toss, own stop"] if kl > NEAR else []


def networks_by_hand(device: torch.device, synchronize: Callable[[], None]) -> list[str]:
    """Prints credo's step of networks beside the step by hand; returns those that are no graph of fused kernels."""
    print(
        f"\n{'network, µs a step':<34}{'':>6}{'by hand':>10}{'credo':>10}{'ratio':>8}{'of a bare product':>19}",
        flush=True,
    )
    data, wrong = rows(), []
    native.PATIENCE, native.FUSING = 0.0, 0.0  # kernels are fused at the first chance
    begun, longest = time.perf_counter(), 0.0
    for precision in (None, "bf16"):
        rate = bare_rate(device, precision, lambda product: seconds([product], [LAPS], synchronize)[0])
        for work in WORKS:
            name = f"{work.name}{precision or 'float32':>9}"
            now = time.perf_counter()
            if now - begun + longest > HAND:
                print(f"{name:<40}not begun after {now - begun:.0f} s", flush=True)
                continue
            try:
                steps, svi = credos(work, data, device, precision)
                steps(200)
                hand, mine = seconds([by_hand(work, data, device, precision), steps], [LAPS] * 2, synchronize)
            except Exception as error:
                print(f"{name}  {type(error).__name__}: {str(error).splitlines()[0][:140]}", flush=True)
                wrong.append(name)
                continue
            finally:
                longest = max(longest, time.perf_counter() - now)
            share = flops(work) / mine / rate
            print(f"{name:<40}{hand * 1e6:10,.0f}{mine * 1e6:10,.0f}{mine / hand:8.2f}{share:19.0%}", flush=True)
            if svi.plan.compiled != "captured once, compiled":
                print(f"    {svi.plan.compiled}")
                wrong.append(name)
    return wrong


def seconds(contenders: list[Steps], at_once: Sequence[int], synchronize: Callable[[], None]) -> list[float]:
    """Median seconds of a step of each, in turns. at_once: the steps of one call of each."""
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for take_steps, found, n in zip(contenders, times, at_once, strict=True):
            synchronize()
            begun, steps = time.perf_counter(), 0
            while time.perf_counter() - begun < SECONDS:
                take_steps(n)
                steps += n
            synchronize()
            found.append((time.perf_counter() - begun) / steps)
    return [statistics.median(found) for found in times]


def parity(program: Program, device: torch.device) -> Result:
    with NoiseOfTheCPU():
        cpu, there = (losses(program, d, False, STEPS)[0] for d in ("cpu", device))
    eager, _ = losses(program, device, False, LONG)
    recorded, how = losses(program, device, True, LONG)
    return Result(program.name, difference(there, cpu), difference(recorded, eager), how)


def losses(program: Program, device: Any, compile: bool, steps: int) -> tuple[torch.Tensor, str]:
    pyro.clear_param_store()
    guide, options = program.guide(), {"plan": "fast"} | program.options
    svi = credo.SVI(program.model, guide, device=device, compile=compile, progress=False, seed=1, **options)
    for _ in range(steps):  # a run of so few steps would not be recorded
        svi.step(*program.data)
    assert svi.plan is not None
    return torch.tensor(svi.losses, dtype=torch.float64), svi.plan.compiled


def difference(one: torch.Tensor, two: torch.Tensor) -> float:
    """The largest relative difference; infinite if they are not equally many."""
    return ((one - two).abs() / two.abs()).max().item() if len(one) == len(two) else float("inf")


def speeds(name: str, device: torch.device, synchronize: Callable[[], None]) -> list[float]:
    """Median microseconds of a step of each contender, in turns."""
    pair = credo.load(name)
    contenders = [of_pyro(pair, device), *(of_credo(pair, device, compile) for compile in (False, True))]
    return [1e6 * found for found in seconds(contenders, AT_ONCE, synchronize)]


def of_pyro(pair: credo.Pair, device: torch.device) -> Callable[[int], Any]:
    data = tree_map(lambda v: v.to(device) if isinstance(v, torch.Tensor | torch.nn.Module) else v, pair.data())
    svi = pyro.infer.SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 0.02}), pyro.infer.Trace_ELBO())
    with pyro.get_param_store().scope() as state:
        pass

    def take_steps(n: int) -> None:
        with device, pyro.get_param_store().scope(state):
            for _ in range(n):
                svi.step(*data)

    take_steps(5)
    return take_steps


def of_credo(pair: credo.Pair, device: torch.device, compile: bool) -> Callable[[int], Any]:
    svi = credo.SVI(pair.model, pair.guide, plan="fast", device=device, compile=compile, progress=False)
    data = pair.data()
    svi.run(*data, steps=200 if compile else 20)  # shorter runs are not recorded
    return lambda n: svi.run(*data, steps=n)


class NoiseOfTheCPU(TorchDispatchMode):
    """Random operators run on the CPU, whatever the device of their result: one seed, one noise on all devices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        devices = [t.device for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor)]
        devices += [torch.device(kwargs["device"])] if kwargs.get("device") is not None else []
        there = next((device for device in devices if device.type != "cpu"), None)
        if there is None or torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        here = {"device": "cpu"} if "device" in kwargs else {}
        args_here, kwargs_here = tree_map(lambda v: v.cpu() if isinstance(v, torch.Tensor) else v, (args, kwargs))
        out = func(*args_here, **kwargs_here | here)
        if func._schema.is_mutable:
            return args[0].copy_(out)
        return tree_map(lambda v: v.to(there) if isinstance(v, torch.Tensor) else v, out)


if __name__ == "__main__":
    main()
