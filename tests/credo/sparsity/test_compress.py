"""`credo.compress` against the pruned network, and its table against counts by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import credo
from credo.guides.bnn_sparse import pruned, report, small_start
from credo.sparsity import compress as module
from credo.sparsity.cut import Cut

PAIR = credo.load("bnn_sparse")


def fitted(net, x, seed=0, model=PAIR.model):
    """Parameters of which about a tenth of the weights stay at log alpha < 3."""
    generator, params = torch.Generator().manual_seed(seed), {}
    for name, w in net.named_parameters():
        draw = torch.randn(w.shape, generator=generator)
        if w.dim() > 1:
            params |= {f"{name}.theta": draw, f"{name}.log_sigma2": 4.5 + 2 * draw.abs().log()}
            params[f"{name}.log_sigma2"] -= 9.0 * (torch.rand(w.shape, generator=generator) < 0.1)
        else:
            params[f"{name}.value"] = draw
    return SimpleNamespace(params=params, data=(net, x, torch.arange(len(x)) % 3), model=model)


def images():
    net = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2), nn.Tanh(), nn.Flatten()),
        *(nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3)),
    )
    return net, torch.randn(20, 1, 8, 8)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [3.0, 5.0, -5.0, 4.5])
def test_its_outputs_are_those_of_the_pruned_network(seed, threshold):
    net, x = images()
    fit = fitted(net, x, seed)
    small = credo.compress(fit, net, threshold=threshold)
    thin = pruned(net, fit.params, threshold)
    with torch.no_grad():
        torch.testing.assert_close(small.network(x), thin(x), rtol=1e-6, atol=1e-5)
    counts = report(fit.params, threshold)
    assert small.table["weights"].tolist() == counts["weights"].tolist()
    assert small.table["kept"].tolist() == counts["kept"].tolist()
    assert small.threshold == threshold and not small.why and not small.seconds
    numbers = sum(t.numel() * t.element_size() for t in (*small.network.parameters(), *small.network.buffers()))
    assert small.table.loc["total", "bytes after"] == numbers
    assert small.table.loc["total", "bytes before"] == 4 * sum(w.numel() for w in net.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_a_packed_network_gives_the_same_and_counts_its_bytes(seed):
    net, x = images()
    fit = fitted(net, x, seed)
    plain, small = credo.compress(fit, net), credo.compress(fit, net, packed=True)
    assert not small.why and set(small.table["layout"][:-1]) == {"packed"}
    torch.testing.assert_close(small.network(x), plain.network(x), rtol=1e-5, atol=1e-5)
    assert small.table[["kept", "after"]].equals(plain.table[["kept", "after"]])
    state = small.network.state_dict().values()
    assert small.table.loc["total", "bytes after"] == sum(t.numel() * t.element_size() for t in state)


def test_a_packed_network_without_machine_code_says_that_it_is_slower(monkeypatch):
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    monkeypatch.setattr(module, "native", lambda: None)
    small = credo.compress(fitted(net, torch.randn(12, 4)), net, packed=True)
    assert "no C++ compiler" in small.why and "set CXX" in small.why


def test_a_network_that_cannot_be_packed_says_so():
    net = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3))
    small = credo.compress(fitted(net, torch.randn(12, 4)), net, packed=True)
    assert small.why == "the network is not packed: GELU is none of the layers that can be packed"
    assert small.network(torch.randn(2, 4)).shape == (2, 3)


def test_the_threshold_of_the_elbo_and_times_are_there_when_asked_for():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    fit = fitted(net, torch.randn(12, 4))
    small = credo.compress(fit, net, threshold=None, timed=True)
    assert small.threshold == module.thresholds(fit).attrs["best"]
    assert set(small.seconds) == {"pruned", "compressed"} and min(small.seconds.values()) > 0


def test_another_fit_or_network_is_refused():
    net, x = images()
    fit = fitted(net, x)
    with pytest.raises(
        ValueError, match=r"net: it has 0.weight of shape \(3, 24\), and the fit of shape \(4, 1, 3, 3\)"
    ):
        credo.compress(fit, nn.Sequential(nn.Linear(24, 3)))
    with pytest.raises(ValueError, match=r"net: it has 0\.weight of shape None"):
        credo.compress(fit, "net")
    with pytest.raises(ValueError, match=r"fit: its parameters are \['w.loc'\]"):
        credo.compress(SimpleNamespace(params={"w.loc": torch.ones(2)}, data=()), net)


def test_outputs_that_differ_are_an_error(monkeypatch):
    net = nn.Sequential(nn.Linear(4, 3))
    other = small_start(net, sd=1.0)
    monkeypatch.setattr(module, "cut", lambda thin: Cut(other, {}, ""))
    with pytest.raises(RuntimeError, match="its compressed form differs from the pruned network"):
        credo.compress(fitted(net, torch.randn(12, 4)), net)


def test_a_network_that_stays_whole_says_so():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, x):
            return 2 * self.inner(x)

    small = credo.compress(fitted(Twice(), torch.randn(12, 4)), Twice())
    assert "the network (Twice)" in small.why and small.table.loc["inner.weight", "after"] == "3 x 4"


@pytest.mark.parametrize("threshold", [float("nan"), True, "3"])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    net, x = images()
    with pytest.raises(ValueError, match=r"threshold: got .*wanted a number"):
        credo.compress(fitted(net, x), net, threshold=threshold)
