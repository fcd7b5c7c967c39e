"""A runner goes on from its state exactly; a run starts from a fit. Oracle: the undisturbed run, seed for seed."""

import functools
import io

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import constraints

import credo
from tests.cases.interruptions import Armed, interrupting

Y = torch.tensor([1.3, 0.2, 2.0, 0.7, -0.4, 1.1, 0.9, 0.3])


def model(y):
    k = pyro.sample("k", dist.Poisson(1.0))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z + 0.2 * k, 1.0), obs=y)


def guide(y):
    pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(1.0), constraint=constraints.positive)))
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), scale))


def noisy(net, y):
    """A network with dropout and batch norm; its running means are part of the state."""
    pyro.module("net", net)
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(net(y[:, None]).squeeze(-1) + z, 0.5), obs=y)


def noisy_guide(net, y):
    with pyro.plate("N", len(y)):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.3))


def network():
    return nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 1))


OPTIONS = {
    "a score function": {},
    "batches": {"batch_size": 3},
    "one particle, a running baseline": {"particles": 1, "plan": {"k": "score"}},
    "SGD": {"optim": functools.partial(torch.optim.SGD, momentum=0.9), "lr": 1e-3},
    "RMSprop": {"optim": torch.optim.RMSprop},
    "a schedule": {"lr": functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.95)},
    "a clipped gradient": {"clip": 0.5},
}


def saved(state):
    """Through torch.save and the loader that runs no program."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("before", [0, 7], ids=["before its first step", "after other steps"])
def test_a_runner_goes_on_exactly_from_the_state_of_another(case, before):
    options = {"compile": False, "progress": False, "plan": "fast"} | OPTIONS[case]
    one, two = (credo.SVI(model, guide, **options) for _ in range(2))
    for _ in range(11):
        one.step(Y)
    state = saved(one.state_dict())
    wanted = [one.step(Y) for _ in range(11)]
    for _ in range(before):
        two.step(Y)
    two.load_state_dict(state)
    assert len(two.losses) == 11
    assert [two.step(Y) for _ in range(11)] == wanted and two.losses == one.losses
    assert all(torch.equal(one.params[name], value) for name, value in two.params.items())


def test_networks_go_on_with_their_running_means_though_they_began_with_other_weights():
    runners = [credo.SVI(noisy, noisy_guide, compile=False, progress=False) for _ in range(2)]
    nets = [network(), network()]
    for _ in range(5):
        runners[0].step(nets[0], Y)
    runners[1].load_state_dict(saved(runners[0].state_dict()))
    found = [runners[1].step(nets[1], Y) for _ in range(5)]
    assert found == [runners[0].step(nets[0], Y) for _ in range(5)]


def test_replayed_steps_go_on_without_eager_ones():
    one, two = (credo.SVI(model, guide, progress=False, plan="fast") for _ in range(2))
    for _ in range(30):
        one.step(Y)
    assert one.plan.compiled.startswith("captured")
    two.load_state_dict(one.state_dict())
    two.step(Y)
    assert two.plan.compiled.startswith("captured") and two.losses[:30] == one.losses


def test_a_state_is_a_copy():
    one = credo.SVI(model, guide, compile=False, progress=False, plan="fast")
    one.step(Y)
    state = one.state_dict()
    before = {name: value.clone() for name, value in state["parameters"].items()}
    one.run(Y, steps=20)
    assert all(torch.equal(state["parameters"][name], value) for name, value in before.items())
    assert len(state["losses"]) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optim": torch.optim.SGD}, "the optimiser is SGD here, and was Adam"),
        ({"batch_size": 3}, "the run takes batches here, and did not there"),
    ],
    ids=["optimiser", "batches"],
)
def test_the_state_of_another_runner_is_refused(options, words):
    one = credo.SVI(model, guide, compile=False, plan="fast")
    one.step(Y)
    other = credo.SVI(model, guide, compile=False, plan="fast", **options)
    other.step(Y)
    with pytest.raises(ValueError, match=f"load_state_dict: the dictionary is of another runner: {words}"):
        other.load_state_dict(one.state_dict())


def fitted(y=Y, guide=guide, **options):
    return credo.fit(model, guide, y, **{"compile": False, "progress": False, "plan": "fast"} | options)


def test_a_run_starts_from_a_fit_and_leaves_it_alone():
    fit = fitted(steps=60)
    before = {name: value.clone() for name, value in fit.params.items()}
    later = fitted(steps=0, start=fit)
    assert all(torch.allclose(later.params[name], value) for name, value in fit.params.items())
    moved = fitted(Y + 1, steps=60, start=fit)  # other data of the same shapes
    assert any(not torch.equal(moved.params[name], value) for name, value in before.items())
    assert all(torch.equal(fit.params[name], value) for name, value in before.items())
    shorter = fitted(Y[:5], steps=0, start=fit)
    assert shorter.params["loc"] == fit.params["loc"]


def test_a_run_starts_where_ctrl_c_ended_another():
    armed = Armed(guide, interrupting(80))
    armed.calls = 0
    fit = credo.fit(model, armed, Y, steps=10_000, compile=False, progress=False, plan="fast")
    assert fit.stopped.startswith("interrupted")
    later = fitted(steps=0, start=fit)
    assert all(torch.allclose(later.params[name], value) for name, value in fit.params.items())


def test_a_run_starts_where_another_diverged():
    def impossible(y):
        z = pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))
        pyro.sample("k", dist.Poisson(1.0))
        return z

    armed = Armed(impossible, lambda calls, y: y)

    def broken(y):
        armed(y)
        if armed.calls > 60:
            pyro.factor("bad", torch.tensor(float("nan")) * pyro.param("loc"), has_rsample=True)

    armed.calls = 0
    with pytest.raises(credo.Diverged) as error:
        credo.fit(model, broken, Y, steps=200, compile=False, progress=False, plan="fast")
    later = fitted(guide=impossible, steps=0, start=error.value.fit)
    assert later.params["loc"] == error.value.fit.params["loc"]


def test_a_network_starts_without_the_warm_up_of_a_first_run():
    """More weights than observations: the weight of the KL rises over 500 steps, which would undo a start."""

    def wide(y):
        w = pyro.sample("w", dist.Normal(torch.zeros(50), 1.0).to_event(1))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(w.mean(), 1.0), obs=y)

    fit = credo.fit(wide, "mean_field", Y, steps=30, plan="fast", compile=False, progress=False)
    svi = credo.SVI(wide, "mean_field", plan="fast", compile=False, progress=False)
    svi._start = fit
    svi.prepare(Y)
    assert svi._prepared.warmup == 0
    svi = credo.SVI(wide, "mean_field", plan="fast", compile=False, progress=False)
    svi.prepare(Y)
    assert svi._prepared.warmup > 0


def other_guide(y):
    pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(1.0), constraint=constraints.positive)))
    pyro.sample("z", dist.Normal(pyro.param("mean", torch.tensor(0.3)), 1.0))


def other_constraint(y):
    pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(1.0), constraint=constraints.positive)))
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.unit_interval)
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), scale))


@pytest.mark.parametrize(
    ("guide", "words"),
    [(other_guide, "'mean' is here, and not there"), (other_constraint, "'scale' has constraint Interval")],
    ids=["other names", "other constraint"],
)
def test_a_fit_of_another_guide_is_refused_by_name(guide, words):
    fit = fitted(steps=3)
    with pytest.raises(ValueError, match=f"start: the fit is of another guide.*{words}"):
        fitted(guide=guide, steps=3, start=fit)


def test_what_is_no_fit_is_no_start():
    with pytest.raises(ValueError, match="start: got 3, wanted a fit"):
        fitted(steps=3, start=3)


def test_fits_without_steps_need_no_start():
    """Their methods find starting points themselves; with `steps` their parameters are a start as others are."""

    def plain(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.StudentT(3.0, z, 1.0), obs=y)

    fit = functools.partial(credo.fit, plain, "full_rank", Y, progress=False)
    first = fit()
    assert fit(start=first).method == first.method == "full rank"
    later = fit(steps=0, start=first)
    assert all(torch.allclose(later.params[name], value) for name, value in first.params.items())
