"""What credo promises about devices beyond a run on one, as JSON:  python -m tests.pretend.rules LIBRARY

{promise: whether it holds, or the error raised}. Which device a run takes if none is named, how it says that memory is
too small, what two devices in one process do to each other, and that pictures, tables and exact answers take data of
any device.
"""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import torch

from credo.inference.calibration.one_by_one import counts_of
from credo.inference.capture import native
from credo.inference.capture.cuda_graph import cuda_graph
from credo.inference.runtime.generators import torch_states
from credo.inference.runtime.replaced import attribute_replaced

from .device import NAME, register
from .graphs import graphs

matplotlib.use("agg")

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # the programs of gpu.py


def main() -> None:
    module = register(Path(sys.argv[1]))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    promises = {**places(), **memory(module), **state(module), **apart(module), **graphs(rows(40)), **afterwards()}
    print(json.dumps({promise: kept(holds) for promise, holds in promises.items()}))


def kept(holds: Callable[[], Any]) -> bool | str:
    """Whether a promise holds, or the error that it raised."""
    try:
        return bool(holds())
    except Exception as error:  # reported, so that the others are seen
        return f"{type(error).__name__}: {error}"[:300]


def places() -> dict[str, Callable[[], bool]]:
    from _gpu_programs import regression

    import credo

    def fit(*data: Any, **options: Any) -> Any:
        return credo.fit(regression, None, *data, steps=2, progress=False, **options)

    def runs_on(fit: Any, device: str) -> bool:
        return {t.device.type for t in fit.params.values()} == {device}

    small, large = rows(40), rows(400_000)
    on_the_device = tuple(v.to(NAME) for v in small)
    return {
        "a small model stays on the CPU": lambda: runs_on(fit(*small), "cpu"),
        "and its plan says so": lambda: "Device: cpu: one draw has" in repr(fit(*small).plan).replace("\n", " "),
        "a large one goes to the device": lambda: runs_on(fit(*large), NAME),
        "unless it is told otherwise": lambda: runs_on(fit(*large, device="cpu"), "cpu"),
        "whose plan says nothing": lambda: "Device" not in repr(fit(*large, device="cpu").plan),
        "with small batches it is a small one": lambda: runs_on(fit(*large, batch_size=10), "cpu"),
        "data on the device stays there": lambda: runs_on(fit(*on_the_device), NAME),
        "but goes where it is told to": lambda: runs_on(fit(*on_the_device, device="cpu"), "cpu"),
        "a small model goes where it is told to": lambda: runs_on(fit(*small, device=NAME), NAME),
    }


def memory(module: Any) -> dict[str, Callable[[], bool]]:
    from _gpu_programs import regression

    import credo

    runner = credo.SVI(regression, None, device=NAME, progress=False, seed=1, particles=4)
    data = rows(1000)
    fit = runner.run(*data, steps=60)

    def fails(ask: Callable[[], Any], *words: str) -> bool:
        try:
            ask()
        except MemoryError as error:
            return all(word in str(error) for word in words)
        return False

    def a_step_that_does_not_fit() -> bool:
        with module.memory_for(500):
            return fails(lambda: runner.step(*data), "give batch_size=", "lower particles (4 now)")

    def batches_that_do_not_fit() -> bool:
        other = credo.SVI(regression, None, device=NAME, progress=False, batch_size=600, particles=1)
        other.run(*data, steps=3)
        with module.memory_for(500):
            return fails(lambda: other.run(*data, steps=3), "lower batch_size (600 now)")

    def draws_in_smaller_chunks() -> bool:
        with module.memory_for(2 * 64_000):  # all draws together are 64,000 numbers
            one = fit.predict(64)["y"]
        with module.memory_for(64_000):
            other = fit.predict(64)["y"]
        return one.shape == other.shape == (64, 1000)

    def too_many_draws() -> bool:
        with module.memory_for(10_000):
            return fails(lambda: fit.predict(64), "draws: 64 do not fit")

    return {
        "a step that does not fit names what to lower": a_step_that_does_not_fit,
        "and leaves the runner usable": lambda: torch.tensor(runner.run(*data, steps=60).losses).isfinite().all(),
        "so do batches": batches_that_do_not_fit,
        "draws are made in chunks that fit": draws_in_smaller_chunks,
        "draws that do not fit name themselves": too_many_draws,
    }


def state(module: Any) -> dict[str, Callable[[], bool]]:
    """What a run keeps beside its parameters."""
    from _gpu_programs import Normed, regression

    import credo

    data = rows(40)

    def counters(compile: bool) -> set[str]:
        places = set()

        class Counting(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                places.add(torch.zeros(1).device.type)
                return super().step(closure)

        taken(credo.SVI(regression, None, Counting, lr=1e-4, device=NAME, compile=compile, progress=False), data)
        return places

    def running_var(compile: bool) -> torch.Tensor:  # the loss leaves the mean open, to which rounding adds up
        model = Normed()
        fit = taken(credo.SVI(model, None, device=NAME, compile=compile, seed=1, progress=False), data)
        return fit.trained(model.net)[1].running_var

    def write(into: Callable[[torch.Tensor, torch.Tensor], Any]) -> torch.Tensor:
        seen = torch.zeros(40)

        def model(x: torch.Tensor, y: torch.Tensor) -> None:
            into(seen, y)
            regression(x, y)

        credo.fit(model, None, *data, device=NAME, steps=2, progress=False)
        return seen

    def refused() -> bool:
        try:
            write(lambda seen, y: seen.add_(y))
        except RuntimeError as error:
            return "Expected all tensors to be on the same device" in str(error)
        return False

    return {
        "a copy into a constant outside reaches it": lambda: write(lambda seen, y: seen.copy_(y)).equal(data[1]),
        "arithmetic into a constant outside is refused, not lost": refused,
        "the generator of the device counts": lambda: len(torch_states()) == 2,
        "an eager optimiser counts on the CPU": lambda: counters(False) == {"cpu"},
        "a replayed one too": lambda: counters(True) == {"cpu"},
        "buffers move in a graph": lambda: torch.allclose(running_var(True), running_var(False), 1e-4),
        "and move": lambda: (running_var(True) - 1).abs().max() > 0.01,
    }


def apart(module: Any) -> dict[str, Callable[[], bool]]:
    """Runs on two devices, step by step in turns, take the steps that each takes alone."""
    from _gpu_programs import regression

    import credo

    module.own_generator(True)
    data = rows(40)

    def runner(device: str) -> Any:
        return credo.SVI(regression, None, device=device, progress=False, seed=3)

    def alone(device: str) -> list[float]:
        one = runner(device)
        return [one.step(*data) for _ in range(30)]

    def in_turns() -> bool:
        one, other = runner("cpu"), runner(NAME)
        pairs = [(one.step(*data), other.step(*data)) for _ in range(30)]
        return [a for a, _ in pairs] == alone("cpu") and [b for _, b in pairs] == alone(NAME)

    def other_noise_is_refused() -> bool:
        def wasteful(*given: Any) -> Any:
            loop = cuda_graph(*given)

            def steps(*arguments: Any) -> list[float]:
                losses = loop(*arguments)
                torch.rand((), device=NAME)
                return losses

            return steps

        with attribute_replaced(native, "cuda_graph", wasteful):
            plan = taken(runner(NAME), data).plan
        return plan is not None and "the CUDA graph differs from the recorded graph" in plan.compiled

    return {
        "two devices do not disturb each other": in_turns,
        "a graph that leaves the device's generator elsewhere is not taken": other_noise_is_refused,
    }


def afterwards() -> dict[str, Callable[[], bool]]:
    from _gpu_programs import correlated

    import credo

    data = rows(40)
    fit = credo.fit(correlated, None, *data, device=NAME, steps=300, progress=False)
    there = tuple(v.to(NAME) for v in data)

    def drawn(picture: Callable[..., Any], *arguments: Any) -> bool:
        return picture(*arguments) is not None

    def exact_answers() -> bool:
        here, there_too = credo.exact(correlated, *data), credo.exact(correlated, *there)
        return abs(here.log_evidence - there_too.log_evidence) < 1e-9

    def reference() -> bool:
        try:
            found = credo.reference(correlated, *there, draws=100, warmup=100, chains=2, device=NAME, progress=False)
        except credo.UnreliableReference as few_draws:
            found = few_draws.reference
        mean, exact = found.marginals["w"].mean.cpu(), credo.exact(correlated, *data).marginals["w"].mean.cpu()
        return bool((mean - exact).abs().max() < 0.2)

    def calibration() -> bool:
        options = {"simulations": 20, "draws": 19, "steps": 150, "device": NAME, "progress": False}
        found = credo.calibrate(correlated, "mean_field", *data, **options)
        return found.method == "fitted by mean field, all data sets at once" and len(found.ranks) == 20

    def counts() -> bool:
        here = credo.exact(correlated, *data).sample(1)["w"][0].float()
        found = counts_of(correlated, fit, data, {"w": here}, 9, 0)
        return found["w"].tolist() == [(fit.sample(9, seed=0)["w"].cpu() < here).sum(0).tolist(), [0, 0]]

    plots, probs = credo.plots, torch.full((50, 4), 0.25, device=NAME)
    labels = torch.arange(50, device=NAME) % 4
    pictures = {
        "losses": lambda: drawn(plots.losses, fit),
        "a belief": lambda: drawn(plots.belief, fit, "w", (0,)),
        "intervals": lambda: drawn(plots.intervals, credo.compare(fit)),
        "a prediction": lambda: drawn(plots.predictive, fit),
        "a forest": lambda: drawn(plots.forest, fit),
        "a predictive check": lambda: drawn(plots.ppc, fit.predict(20)["y"], data[1]),
        "PIT": lambda: drawn(plots.pit, fit),
        "pairs": lambda: drawn(plots.pairs, fit),
        "masses": lambda: drawn(plots.masses, probs[0], probs[1]),
        "a plane": lambda: drawn(plots.plane, fit.sample(50)["w"], probs[:, 0]),
        "images": lambda: drawn(plots.images, probs[:4]),
        "reliability": lambda: drawn(plots.reliability, probs, labels),
        "strangeness": lambda: drawn(plots.strangeness, {"rows": probs[:, 0]}),
    }
    return {
        "what leaves a fit is on its device": lambda: fit.sample(3)["w"].device.type == NAME,
        "a comparison takes it": lambda: (credo.compare(fit)["error in sds"].abs() < 1).all(),
        "exact takes data of the device": exact_answers,
        "reference takes them": reference,
        "calibrate takes the device": calibration,
        "counts of one fit take it": counts,
        "likelihood takes it": lambda: credo.log_likelihood(fit, 10).values.shape == (40,),
        "metrics take it": lambda: credo.metrics.classification(probs, labels)["accuracy"] <= 1,
        "scores of draws take it": lambda: credo.metrics.regression(fit.predict(50)["y"], data[1])["rmse"] > 0,
        "uncertainty takes it": lambda: len(credo.metrics.uncertainty(probs.expand(3, 50, 4))) == 50,
        "auroc takes it": lambda: credo.metrics.auroc(probs[:, 0], probs[:, 1]) == 0.5,
        **{f"a picture of {name} takes it": picture for name, picture in pictures.items()},
    }


def taken(runner: Any, data: tuple[torch.Tensor, ...]) -> Any:
    """The fit after 60 steps, the later ones recorded: a run of so few would not be."""
    for _ in range(60):
        runner.step(*data)
    return runner.run(*data, steps=0)


def rows(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, generator=noise)
    return x, x @ torch.tensor([1.0, -1.0]) + torch.randn(n, generator=noise)


if __name__ == "__main__":
    main()
