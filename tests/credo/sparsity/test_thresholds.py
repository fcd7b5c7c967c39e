"""The ELBO of pruned networks: by hand where q has no noise to speak of, by quadrature where it has."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo
from credo.sparsity.thresholds import thresholds
from tests.cases.by_hand import averaged

MODEL = credo.load("bnn_sparse").model
X, Y = torch.tensor([[0.5], [-1.0], [2.0], [0.3]]), torch.tensor([1, 0, 0, 1])
SIGNS = (2 * Y - 1).double()


def fitted(log_sigma2, theta=(0.8, -0.5), bias=(0.1, 0.4)):
    params = {
        "weight.theta": torch.tensor(theta)[:, None],
        "weight.log_sigma2": torch.tensor(log_sigma2)[:, None],
        "bias.value": torch.tensor(bias),
    }
    return SimpleNamespace(params=params, data=(nn.Linear(1, 2), X, Y), model=MODEL)


def kl(log_alpha):
    a = min(max(log_alpha, -8.0), 8.0)
    return 0.63576 - 0.63576 / (1 + math.exp(-(1.8732 + 1.48695 * a))) + 0.5 * math.log1p(math.exp(-a))


def fits(slope):
    return -torch.log1p(torch.exp(-SIGNS * (X[:, 0].double() * slope[..., None] + 0.4 - 0.1))).sum(-1)


def test_without_noise_it_is_the_likelihood_of_what_is_left_less_its_kl():
    fit = fitted([-30.0, -28.0])
    at = [-30 - 2 * math.log(0.8), -28 - 2 * math.log(0.5)]  # log alpha
    table = thresholds(fit, at=(-40.0, -28.5, 0.0), draws=2)
    both = fits(torch.tensor(-0.5 - 0.8).double()) - kl(at[0]) - kl(at[1])
    first = fits(torch.tensor(-0.8).double()) - kl(at[0])
    none = fits(torch.tensor(0.0).double())
    assert table["kept"].tolist() == [0, 1, 2]
    assert table["elbo"].tolist() == pytest.approx([none.item(), first.item(), both.item()], abs=1e-4)
    assert table["below"].tolist() == pytest.approx((table["elbo"].max() - table["elbo"]).tolist(), abs=1e-9)
    assert table.attrs["best"] == -40  # 4.6 nats a weight are more than these four rows can pay


def test_with_noise_it_is_that_of_the_quadrature():
    log_sigma2 = [-1.0, 0.5]
    table = thresholds(fitted(log_sigma2), at=(-9.0, 0.0, 9.0), draws=120)
    alpha = [-1.0 - 2 * math.log(0.8), 0.5 - 2 * math.log(0.5)]
    assert -9 < alpha[0] < 0 < alpha[1] < 9
    one = averaged(fits, torch.tensor(-0.8), torch.tensor(math.exp(-0.5))) - kl(alpha[0])
    sd = math.sqrt(math.exp(-1.0) + math.exp(0.5))
    both = averaged(fits, torch.tensor(-1.3), torch.tensor(sd)) - kl(alpha[0]) - kl(alpha[1])
    exact = [fits(torch.tensor(0.0).double()).item(), float(one), float(both)]
    # The sd of log p at one draw is below 1.5 nats here, so the error of 120 draws is below 0.14.
    assert table["elbo"].tolist() == pytest.approx(exact, abs=0.5)
    assert table["elbo"].iloc[0] == pytest.approx(exact[0], abs=1e-5)


def test_a_weight_that_the_data_need_stays_and_noise_goes():
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    params = {
        "weight.theta": torch.tensor([[-2.0, 0.01], [2.0, 0.01]]),
        "weight.log_sigma2": torch.full((2, 2), -6.0),
        "bias.value": torch.zeros(2),
    }
    table = thresholds(SimpleNamespace(params=params, data=(nn.Linear(2, 2), x, y), model=MODEL), draws=4)
    assert table.loc[table.attrs["best"], "kept"] == 2
    part = thresholds(SimpleNamespace(params=params, data=(nn.Linear(2, 2), x, y), model=MODEL), draws=4, rows=100)
    assert part.loc[part.attrs["best"], "kept"] == 2


def test_what_has_no_elbo_is_refused():
    with pytest.raises(ValueError, match=r"fit: its parameters are \['w.loc'\], wanted NAME.theta"):
        thresholds(SimpleNamespace(params={"w.loc": torch.ones(2)}, data=(), model=MODEL))
    with pytest.raises(ValueError, match="its data are not"):
        thresholds(SimpleNamespace(params=fitted([0.0, 0.0]).params, data=(X, Y), model=MODEL))
    with pytest.raises(ValueError, match="got 1 draws"):
        thresholds(fitted([0.0, 0.0]), draws=1)

    def normal(net, x, y=None):
        w = pyro.sample("weight", dist.Normal(torch.zeros(2, 1), 1.0).to_event(2))
        b = pyro.sample("bias", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Categorical(logits=x @ w.T + b), obs=y)

    fit = fitted([0.0, 0.0])
    fit.model = normal
    with pytest.raises(ValueError, match="weight: its prior is Normal"):
        thresholds(fit)


def test_layers_of_noise_are_off_as_in_the_pruned_network():
    plain, noisy = fitted([-1.0, 0.5]), fitted([-1.0, 0.5])
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(1, 2))
    params = {f"1.{name}": value for name, value in noisy.params.items()}
    noisy = SimpleNamespace(params=params, data=(net, X, Y), model=MODEL)
    state = torch.get_rng_state()
    assert thresholds(noisy, at=(-9.0, 0.0, 9.0)).equals(thresholds(plain, at=(-9.0, 0.0, 9.0)))
    assert torch.equal(state, torch.get_rng_state()) and net.training


@pytest.mark.parametrize("named", [{"rows": 0}, {"rows": -1}, {"rows": 1}, {"at": (math.nan,)}, {"draws": 1}])
def test_numbers_from_which_no_threshold_follows_are_refused(named):
    with pytest.raises(ValueError, match=r"got .*wanted"):
        thresholds(fitted([-1.0, 0.5]), **named)


def test_one_row_has_no_spread():
    fit = fitted([-1.0, 0.5])
    fit.data = (fit.data[0], X[:1], Y[:1])
    with pytest.raises(ValueError, match=r"fit: its data has 1 rows, wanted at least 2"):
        thresholds(fit)
