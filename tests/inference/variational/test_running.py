"""What the runner does beside single steps: the fit of the present parameters, and states that do not fit it."""

import pyro
import pyro.distributions as dist
import pyro.optim
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.variational import running
from credo.inference.variational.running import FORMAT

Y = torch.tensor([1.3, 0.2, 2.0, 0.7])


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide(y):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), 0.5))


def runner(**options):
    return credo.SVI(model, guide, **{"compile": False, "progress": False, "plan": "fast"} | options)


def test_the_fit_after_a_loop_of_ones_own_takes_no_step():
    svi = runner()
    for _ in range(5):
        svi.step(Y)
    before = svi.params["loc"].clone()
    fit = svi.fit()
    assert fit.params["loc"] == before == svi.params["loc"] and len(svi.losses) == len(fit.losses) == 5
    assert fit.predict(2)["y"].shape == (2, 4) and fit.sample(3)["z"].shape == (3,)
    assert fit.stopped == "after the 5 steps of a loop of one's own" and not fit.converged
    svi.step(Y)
    assert fit.params["loc"] == before, "later steps leave the fit as it is"


def test_the_fit_is_of_the_data_given_or_of_those_of_the_last_call():
    svi = runner()
    svi.step(Y[:2], rows=4)
    assert svi.fit().data[0].shape == (2,)
    assert svi.fit(Y).data[0].shape == svi.fit(y=Y).data[0].shape == (4,)
    svi.run(Y, steps=1)
    assert svi.fit().data[0].shape == (4,)


def test_before_the_first_step_the_fit_is_the_guide_as_it_starts():
    with pytest.raises(ValueError, match="fit: the runner has seen no data yet"):
        runner().fit()
    assert runner().fit(Y).params["loc"] == torch.tensor(0.3)
    svi = runner()
    svi.prepare(Y)
    assert svi.fit().params["loc"] == torch.tensor(0.3)


def test_after_a_loop_over_batches_the_fit_is_of_the_last_one():
    svi = credo.SVI(model, guide, progress=False, plan="fast")
    for k in range(60):
        svi.step(Y + k % 2, rows=4)
    assert torch.equal(svi.fit().data[0], Y + 1)


def test_a_callback_may_take_the_fit_and_the_state_of_the_moment():
    seen = []
    svi = runner()
    whole = svi.run(
        Y, steps=40, callback=lambda svi, step, loss: seen.append((svi.fit(), svi.state_dict())), callback_every=20
    )
    assert whole.losses == runner().run(Y, steps=40).losses, "looking changes nothing"
    fit, state = seen[0]
    assert len(fit.losses) == 20 and not torch.equal(fit.params["loc"], seen[1][0].params["loc"])
    other = runner()
    other.load_state_dict(state)
    assert [other.step(Y) for _ in range(20)] == list(whole.losses[20:])


def test_there_is_no_state_before_the_data_but_one_that_waits_is_handed_on():
    with pytest.raises(ValueError, match="state_dict: the runner has no parameters before its first data"):
        runner().state_dict()
    svi, other, third = runner(), runner(), runner()
    svi.step(Y)
    other.load_state_dict(svi.state_dict())
    third.load_state_dict(other.state_dict())
    assert third.losses == svi.losses and third.step(Y) == svi.step(Y)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "got {}, wanted the dictionary that svi.state_dict"),
        (3, "got 3, wanted the dictionary"),
        ({"credo.SVI": FORMAT + 1}, f"a newer credo made this dictionary, in format {FORMAT + 1}"),
        ({"credo.SVI": 0}, "another version of credo made this dictionary, in format 0.*load it with that version"),
        ({"credo.SVI": FORMAT}, "the dictionary is not whole: 'losses' is missing"),
    ],
    ids=["empty", "a number", "newer", "older", "not whole"],
)
def test_what_is_no_state_is_refused(state, words):
    svi = runner()
    with pytest.raises(ValueError, match=words):
        svi.load_state_dict(state)
    svi.step(Y)


def test_a_state_that_lacks_a_part_is_refused():
    svi = runner()
    svi.step(Y)
    state = {name: value for name, value in svi.state_dict().items() if name != "optimiser"}
    with pytest.raises(ValueError, match="of another runner: 'optimiser' is missing"):
        svi.load_state_dict(state)


def wider(y):
    loc = pyro.param("loc", torch.tensor([0.3, 0.1]))
    pyro.sample("z", dist.Normal(loc[0], pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)))


def test_a_state_of_another_runner_is_refused_at_each_step_and_leaves_nothing():
    other = credo.SVI(model, wider, compile=False, progress=False, plan="fast")
    other.step(Y)
    waiting, begun, alone = runner(), runner(), runner()
    waiting.load_state_dict(other.state_dict())
    for _ in range(2):
        with pytest.raises(ValueError, match="the dictionary is of another runner"):
            waiting.step(Y)
    begun.step(Y), alone.step(Y)
    with pytest.raises(ValueError, match="the dictionary is of another runner"):
        begun.load_state_dict(other.state_dict())
    assert begun.step(Y) == alone.step(Y) and begun.losses == alone.losses
    waiting.load_state_dict(alone.state_dict())
    assert waiting.step(Y) == alone.step(Y) and waiting.losses == alone.losses


def test_a_callback_of_fit_may_ask_without_the_data(tmp_path):
    seen = []

    def callback(svi, step, loss):
        fit = svi.fit()
        fit.save(tmp_path / "best.credo")
        seen.append((len(fit.data[0]), svi.evaluate_loss(), svi.gradients()["loc"]))

    options = {"steps": 20, "compile": False, "progress": False, "plan": "fast"}
    fit = credo.fit(model, guide, Y, callback=callback, callback_every=10, validation=0.25, **options)
    assert [rows for rows, *_ in seen] == [3, 3], "of the rows that it trains on"
    assert fit.losses == credo.fit(model, guide, Y, validation=0.25, callback_every=10, **options).losses
    assert credo.load_fit(tmp_path / "best.credo", model, guide).losses == fit.losses


@pytest.mark.parametrize("call", ["fit", "evaluate_loss", "gradients"])
def test_what_trains_nothing_takes_the_data_of_the_last_call_that_did(call):
    with pytest.raises(ValueError, match=f"{call}: the runner has seen no data yet; pass them, svi.{call}"):
        getattr(runner(), call)()
    svi = runner()
    getattr(svi, call)(Y)
    assert len(svi.fit().data[0]) == 4, "the first data"
    svi.step(Y)
    getattr(svi, call)(Y[:2])
    assert len(svi.fit().data[0]) == 4, "not the held-out data"
    getattr(svi, call)()


def test_a_runner_of_pyros_gives_its_fit_and_says_where_its_state_is():
    svi = credo.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}))
    with pyro.get_param_store().scope():
        with pytest.raises(ValueError, match="no data yet"):
            svi.fit()
        svi.step(Y)
        fit = svi.fit()
        assert fit.params["loc"] == pyro.param("loc") and len(fit.losses) == 1
        assert svi.fit(Y[:2]).data[0].shape == (2,)
        for call in (svi.state_dict, lambda: svi.load_state_dict({})):
            with pytest.raises(TypeError, match="get_param_store"):
                call()


def test_data_that_were_checked_are_checked_again_only_if_they_may_have_changed(monkeypatch):
    looks = []
    monkeypatch.setattr(running, "check", lambda *given: looks.append(given))
    pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    svi = credo.SVI(pair.model, pair.guide, plan="fast", compile=False, progress=False)
    for data, seen in ((flips, 0), (flips, 0), (flips.clone(), 1), (flips, 2), (flips, 2)):
        svi.run(data, steps=1)
        assert len(looks) == seen
    flips.add_(0)
    svi.run(flips, steps=1)
    assert len(looks) == 3
    for _ in range(2):  # nothing counts the changes of an array
        svi.run(flips.numpy(), steps=1)
    assert len(looks) == 5


def test_a_label_of_no_class_in_a_later_step_is_named_and_no_step_is_taken():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Categorical(logits=x @ w), obs=y)

    x, y = torch.randn(12, 2), torch.arange(12) % 3
    svi = credo.SVI(model, "mean_field", progress=False, compile=False)
    svi.step(x, y, rows=120)
    before = svi.params
    with pytest.raises(ValueError, match=r"site 'y': 1 of 12 observed values .* the first is 3 at index \(0,\)"):
        svi.step(x, torch.tensor([3, *y[1:]]), rows=120)
    assert len(svi.losses) == 1
    assert all(torch.equal(value, before[name]) for name, value in svi.params.items())
