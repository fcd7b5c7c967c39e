"""Where observed values stand in the data: views, copies, casts, gathers; and what has no place there."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.calibration.origins import origins, placed

Y = torch.tensor([[0.3, 1.0], [2.0, -1.0], [0.5, 0.7]])
LABELS = torch.tensor([0, 1, 1, 0])


def observing(value):
    """A model that observes a function of its argument y."""

    def model(y):
        seen = value(y)
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("s", dist.Normal(z, 1.0).expand(seen.shape).to_event(seen.dim()), obs=seen)

    return model


@pytest.mark.parametrize(
    "value",
    [
        lambda y: y,
        lambda y: y[:, 1],
        lambda y: y.T,
        lambda y: y[1:].flatten(),
        lambda y: y[2, 0],
        lambda y: y.double(),
        lambda y: y[[2, 0]],
        lambda y: y[torch.tensor([True, False, True])],
        lambda y: torch.stack([y[0], y[1]]),
        lambda y: y.reshape(-1).unsqueeze(0),
    ],
    ids=["whole", "column", "transposed", "flattened rows", "one", "cast", "gathered", "masked", "stacked", "reshaped"],
)
def test_values_are_found_where_the_model_takes_them(value):
    found = origins(observing(value), (Y,), ["y"])["s"]
    assert torch.equal(Y.flatten()[found.places].double(), value(Y).double())
    new = placed((Y,), {"s": found}, {"s": torch.full((2, *value(Y).shape), 9.0)})[0]
    assert torch.equal(value(new[1]), torch.full_like(value(new[1]), 9.0))
    assert int((new[0] == 9).sum()) == value(Y).numel()  # the other entries are as they were


def labels(y):
    p = pyro.sample("p", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Categorical(p), obs=y)


def test_labels_stay_whole_numbers():
    new = placed((LABELS,), origins(labels, (LABELS,), ["y"]), {"y": torch.tensor([[1, 1, 0, 0]])})[0]
    assert new.dtype == torch.int64 and new.tolist() == [[1, 1, 0, 0]]


def test_counts_become_floats_where_the_site_draws_others():
    model = observing(lambda y: y.float())
    new = placed((LABELS,), origins(model, (LABELS,), ["y"]), {"s": torch.tensor([[0.5, 1, 2, 3]])})[0]
    assert new.tolist() == [[0.5, 1, 2, 3]]


def test_missing_values_stay_missing():
    y = torch.tensor([1.0, torch.nan, 2.0])
    new = placed((y,), origins(observing(lambda y: y), (y,), ["y"]), {"s": torch.tensor([[5.0, 6.0, 7.0]])})[0]
    assert new[0, [0, 2]].tolist() == [5, 7] and new[0, 1].isnan()


def two(x, y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("s", dist.Normal(z, 1.0).expand([3]).to_event(1), obs=y.double().float() + 0 * x)


def test_an_argument_is_named_where_several_hold_the_same_numbers():
    same = torch.zeros(3)
    with pytest.raises(ValueError, match=r"site 's'.*observed=\{'s': 'y'\}"):
        origins(two, (same, same.clone()), ["x", "y"])
    assert origins(two, (same, same.clone()), ["x", "y"], "y")["s"].argument == 1
    assert origins(two, (same, same.clone()), ["x", "y"], {"s": "y"})["s"].argument == 1
    with pytest.raises(ValueError, match="the arguments of the model are x, y"):
        origins(two, (same, same.clone()), ["x", "y"], "w")
    with pytest.raises(ValueError, match=r"observed: got site 't'.*'s'"):
        origins(two, (same, same.clone()), ["x", "y"], {"t": "y"})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda y: y.log1p(), "no entries of the arguments"),
        (lambda y: (y - y.mean()) / y.std(), "no entries of the arguments"),
        (lambda y: y[0].expand(3, 2), "observed several times"),
    ],
    ids=["logarithm", "standardised", "repeated"],
)
def test_values_without_a_place_are_refused(value, words):
    with pytest.raises(ValueError, match=f"site 's'.*{words}"):
        origins(observing(value), (Y + 2,), ["y"])


def factored(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("f", -((z - y.mean()) ** 2))


def test_a_factor_is_refused():
    with pytest.raises(ValueError, match=r"site 'f': pyro.factor .* no draw"):
        origins(factored, (Y,), ["y"])


def test_a_model_without_observations_is_refused():
    with pytest.raises(ValueError, match="observes nothing"):
        origins(lambda y: pyro.sample("z", dist.Normal(0.0, 1.0)), (Y,), ["y"])
