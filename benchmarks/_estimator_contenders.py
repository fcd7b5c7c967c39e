"""The two sides of estimators.py: Pyro's ELBOs with annotations written by hand, and credo with its defaults.

A contender draws gradients of -ELBO (nats, unconstrained space) at one point and records the CPU time of each. The
point is {parameter: unconstrained value}; contenders have their own parameters, so that they do not disturb each other.
"""

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyro
import pyro.infer
import torch
from _estimator_pairs import Pair
from pyro import poutine

import credo
from credo.inference.objective.gradients import gradients
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.sites import latent
from credo.inference.runtime.state import entered

Point = dict[str, torch.Tensor]
PARTICLES = (1, 2, 4, 8, 16, 32)
WARM, SETTLED = 3, 30  # gradients before the first that counts; where a moving average has to settle


@dataclass
class Contender:
    """draw(): the gradients, in the order of the parameters' names. inside(): a context around a block of draws.

    sizes: how many numbers each parameter has, in the same order.
    """

    label: str
    particles: int
    draw: Callable[[], list[torch.Tensor]]
    inside: Callable[[], contextlib.AbstractContextManager]
    gradients: list[torch.Tensor] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # CPU seconds
    sizes: list[int] = field(default_factory=list)
    failed: str = ""

    @property
    def variance(self) -> float:
        """The trace of the covariance of the gradient."""
        return torch.stack(self.gradients).double().var(0).sum().item()

    @property
    def seconds(self) -> float:
        return statistics.median(self.times)

    @property
    def product(self) -> float:
        """variance × milliseconds, which the benchmark compares; less is better."""
        return self.variance * self.seconds * 1000

    def block(self, n: int) -> None:
        """Draws n more gradients; an error excludes the contender and is kept in `failed`."""
        try:
            with self.inside(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warm = SETTLED if "baseline" in self.label or self.label == "credo" else WARM
                for _ in range(0 if self.gradients else warm):
                    self.draw()
                for _ in range(n):
                    start = time.process_time()
                    found = self.draw()
                    self.times.append(time.process_time() - start)
                    self.sizes = [g.numel() for g in found]
                    self.gradients.append(torch.cat([g.flatten() for g in found]))
        except Exception as error:  # whatever a program of ours makes of somebody's ELBO, it is a line in a table
            self.failed = (str(error) or type(error).__name__).strip().splitlines()[0]


def choices(pair: Pair) -> dict[str, tuple[type, Callable, Callable]]:
    """{label: (class, model, guide)}: every choice that Pyro offers for this pair, except the number of particles."""
    found: dict[str, tuple[type, Callable, Callable]] = {}
    guides = {"": pair.guide} | {f", {word}": guide for word, guide in pair.hand.items()}
    with pyro.get_param_store().scope():
        for word, guide in guides.items():
            q = poutine.trace(guide).get_trace(*pair.data)
            p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
            drawn = [site["fn"] for site in latent(q, auxiliary=True).values()]
            rough = any(not fn.has_rsample for fn in drawn)
            finite = any(fn.has_enumerate_support and not fn.event_shape for fn in drawn)
            summed = any(name not in q.nodes for name in latent(p, auxiliary=True))
            if summed:  # latents that the guide leaves to the model: one class alone sums over them
                model = pyro.infer.config_enumerate(pair.model, "parallel")
                found[f"TraceEnum parallel{word}"] = (pyro.infer.TraceEnum_ELBO, model, guide)
                continue
            found[f"Trace{word}"] = (pyro.infer.Trace_ELBO, pair.model, guide)
            found[f"TraceGraph{word}"] = (pyro.infer.TraceGraph_ELBO, pair.model, guide)
            if rough:
                found[f"TraceGraph baseline{word}"] = (pyro.infer.TraceGraph_ELBO, pair.model, _with_baseline(guide))
            else:
                found[f"TraceMeanField{word}"] = (pyro.infer.TraceMeanField_ELBO, pair.model, guide)
            if finite:
                for how in ("parallel", "sequential"):
                    by_sum = pyro.infer.config_enumerate(guide, how)
                    found[f"TraceEnum {how}{word}"] = (pyro.infer.TraceEnum_ELBO, pair.model, by_sum)
    return found


def by_pyro(pair: Pair, label: str, particles: int, point: Point | None = None) -> Contender:
    """Pyro's choice at `point`, or at the initial values. Particles run at once where that works, else in a loop."""
    kind, model, guide = choices(pair)[label]
    with pyro.get_param_store().scope() as state, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        q = poutine.trace(pair.guide).get_trace(*pair.data)
        poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
        leaves = hand_over(point)
        for vectorised in (True, False):
            try:
                elbo = kind(
                    num_particles=particles,
                    vectorize_particles=vectorised,
                    max_plate_nesting=pair.nesting,
                    strict_enumeration_warning=False,
                )
                elbo.loss_and_grads(model, guide, *pair.data)
                break
            except Exception:
                if not vectorised:
                    break  # the first block will say why

    def draw() -> list[torch.Tensor]:
        for leaf in leaves:
            leaf.grad = None
        elbo.loss_and_grads(model, guide, *pair.data)
        return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]

    return Contender(label, particles, draw, lambda: pyro.get_param_store().scope(state))


def by_credo(runner: credo.SVI, pair: Pair) -> Contender:
    """credo with its current plan: the gradient of its steps, inside its own state as Pyro's is inside its store."""
    together, prepared, _ = runner._begin(pair.data)

    def draw() -> list[torch.Tensor]:
        found = gradients(lambda: runner._steps.loss(together, runner.plan)[1])
        return [found[name] for name in sorted(found)]

    return Contender("credo", particles_of(runner), draw, lambda: entered(prepared.state))


def meet(runner: credo.SVI, pair: Pair, point: Point) -> None:
    """credo at a checkpoint: prepares the data, sets the parameters, and plans again as it does during training."""
    runner.prepare(*pair.data)
    with entered(runner._prepared.state):
        hand_over(point)
    runner.race(*pair.data)


def particles_of(runner: credo.SVI) -> int:
    return runner._prepared.particles


def plan_in_short(runner: credo.SVI) -> str:
    """Each site's estimator and term, and the particles."""
    sites = [f"{e.site}: {e.estimator}{'' if e.term == 'log q' else f' {e.term}'}" for e in runner.plan.entries]
    return f"{', '.join(sites)}; {particles_of(runner)} particles"


def hand_over(point: Point | None) -> list[torch.Tensor]:
    """Sets the parameters of the current store to these unconstrained values; returns its leaves ordered by name."""
    leaves = unconstrained()
    with torch.no_grad():
        for name, value in (point or {}).items():
            leaves[name].copy_(value)
    return [leaves[name] for name in sorted(leaves)]


def trained(pair: Pair, steps: int) -> tuple[list[Point], dict, float]:
    """(the points at the start, after a tenth of the steps and after all, the constraints, the CPU seconds of it).

    The trainer of the pair runs with 8 particles and Adam at 0.02, which falls to zero over the second half.
    """
    teacher = by_pyro(pair, pair.trainer, 8)
    points: list[Point] = []
    start = time.process_time()
    with teacher.inside():
        leaves = unconstrained()
        constraints = dict(pyro.get_param_store()._constraints)
        adam = torch.optim.Adam(leaves.values(), lr=0.02)
        for step in range(steps + 1):
            if step in (0, steps // 10, steps):
                points.append({name: leaf.detach().clone() for name, leaf in leaves.items()})
            for group in adam.param_groups:
                group["lr"] = 0.02 * min(1.0, 2 * (1 - step / (steps + 1)))
            gradients = teacher.draw()
            for name, gradient in zip(sorted(leaves), gradients, strict=True):
                leaves[name].grad = gradient
            adam.step()
    return points, constraints, time.process_time() - start


def interleaved(contenders: list[Contender], n: int, seconds: float = float("inf"), block: int = 20) -> None:
    """Runs the contenders in alternating blocks until each has n gradients, or n / 10 and this many CPU seconds."""

    def wanting() -> Iterator[Contender]:
        for c in contenders:
            enough = n if sum(c.times) < seconds else n // 10
            if not c.failed and len(c.gradients) < enough:
                yield c

    while todo := list(wanting()):
        for c in todo:
            c.block(min(block, n - len(c.gradients)))


def _with_baseline(guide: Callable) -> Callable:
    def options(site: dict) -> dict:
        smooth = site["type"] != "sample" or site["fn"].has_rsample
        return {} if smooth else {"baseline": {"use_decaying_avg_baseline": True}}

    return poutine.infer_config(guide, config_fn=options)
