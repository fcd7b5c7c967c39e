"""Packed networks, by machine code and by torch, against the plain layers that they stand for."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from credo.sparsity import packed as module
from credo.sparsity.cut import cut
from credo.sparsity.native import native
from credo.sparsity.pack import pack

ROWS = (1, 16, 37)  # below, at and above the 16 rows that machine code takes at once


def thinned(net, seed=0):
    """About a fifth of the weights stay, and some units go: those of every third row."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in net.parameters():
            if w.dim() > 1:
                w.mul_(torch.rand(w.shape, generator=generator) < 0.2)
                w[::3].zero_()
    return net.eval()


def lines(bias=True):
    net = nn.Sequential(
        nn.Linear(30, 20, bias), nn.ReLU(), nn.Linear(20, 12), nn.Tanh(), nn.Dropout(), nn.Linear(12, 4)
    )
    return thinned(net), lambda n: torch.randn(n, 30)


def convolutions(pad):
    body = nn.Sequential(
        *(nn.Conv2d(2, 6, (3, 2), padding=(pad, 0)), nn.ReLU(), nn.MaxPool2d((2, 3), (2, 2))),
        *(nn.Conv2d(6, 5, 2, bias=False, padding=pad), nn.Sigmoid(), nn.Flatten()),
    )
    units = body(torch.zeros(1, 2, 9, 8)).shape[1]
    net = nn.Sequential(*body, nn.Linear(units, 7), nn.ReLU(), nn.Linear(7, 3))
    return thinned(net), lambda n: torch.randn(n, 2, 9, 8)


def flattened():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2))
    return thinned(net), lambda n: torch.randn(n, 3, 4)


NETWORKS = (lines, lambda: lines(False), lambda: convolutions(0), lambda: convolutions(1), flattened)


@pytest.mark.parametrize("make", NETWORKS)
def test_outputs_are_those_of_the_plain_layers(make):
    assert native() is not None  # this computer has a compiler, or torch's own compiled steps would not run either
    net, rows = make()
    found = pack(cut(net).network)
    for n in ROWS:
        x = rows(n)
        with torch.no_grad():
            torch.testing.assert_close(found(x), net(x), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(found.by_torch(x), net(x), rtol=1e-5, atol=1e-6)


def test_every_number_of_rows_and_dimensions_is_taken():
    net, _ = lines()
    found = pack(net)
    for shape in ((30,), (0, 30), (3, 17, 30)):
        x = torch.randn(shape)
        torch.testing.assert_close(found(x), net(x).detach(), rtol=1e-5, atol=1e-6)
    x = torch.randn(30, 20).T  # its rows do not lie one after the other
    torch.testing.assert_close(found(x), net(x).detach(), rtol=1e-5, atol=1e-6)


def test_missing_numbers_stay_missing_as_in_torch():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 4))
    with torch.no_grad():
        net[4].weight.copy_(torch.eye(4))
        net[0].weight.fill_(1.0)
    x = torch.randn(1, 1, 4, 4)
    x[0, 0, 0, 1] = torch.nan
    for rows in (x, x.repeat(20, 1, 1, 1)):
        wanted = net[:4](rows).isnan()  # a weight of zero reads nothing, where a dense layer says 0 * NaN = NaN
        assert torch.equal(pack(net)(rows).isnan(), wanted) and wanted.any()


def test_it_survives_copies_files_and_states_and_reads_its_weights_anew():
    net, rows = lines()
    found, x = pack(net), rows(5)
    wanted = found(x)
    file = io.BytesIO()
    torch.save(found, file)
    file.seek(0)
    for same in (copy.deepcopy(found), torch.load(file, weights_only=False)):
        assert torch.equal(same(x), wanted)
    same.values.mul_(0.0)
    assert not torch.equal(same(x), wanted)
    same.load_state_dict(found.state_dict())
    assert torch.equal(same(x), wanted)
    assert sum(t.numel() * t.element_size() for t in found.state_dict().values()) == sum(found.stored())
    assert "layers=5" in repr(found)


@pytest.mark.parametrize("change", [{"columns": -1}, {"rows": 10_000}, {"rows": -5}])
def test_a_state_that_reads_beyond_its_weights_is_refused(change):
    found = pack(lines()[0])
    state = {name: t.clone() for name, t in found.state_dict().items()}
    for name, value in change.items():
        state[name][3] = value
    with pytest.raises(ValueError, match="state_dict: its columns or rows"):
        found.load_state_dict(state)


def test_other_precisions_gradients_and_transforms_go_through_torch():
    net, rows = lines()
    found, x = pack(net), rows(3)
    double = copy.deepcopy(found).double()
    torch.testing.assert_close(double(x.double()), copy.deepcopy(net).double()(x.double()).detach())
    needs = x.clone().requires_grad_()
    wanted = torch.autograd.grad(net(needs).sum(), needs)[0]
    torch.testing.assert_close(torch.autograd.grad(found(needs).sum(), needs)[0], wanted)
    torch.testing.assert_close(torch.vmap(found)(x), net(x).detach())
    torch.testing.assert_close(torch.func.grad(lambda a: found(a).sum())(x), wanted)
    with pytest.raises(RuntimeError, match="dtype"):
        found(x.double())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traces_tangents_and_numbers_with_a_sign_apart_go_through_torch():
    """Machine code reads memory: a trace would keep an empty tensor, a tangent be lost, the sign be forgotten."""
    net, rows = lines()
    found, x = pack(net), rows(3)
    traced = torch.jit.trace(found, x, check_trace=False)
    torch.testing.assert_close(traced(x + 1.0), net(x + 1.0).detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found(torch._neg_view(x)), net(-x).detach(), rtol=1e-5, atol=1e-6)
    with forward_ad.dual_level():
        one, two = (forward_ad.unpack_dual(f(forward_ad.make_dual(x, x.cos()))).tangent for f in (found, net))
    torch.testing.assert_close(one, two.detach(), rtol=1e-5, atol=1e-6)


def test_whole_numbers_keep_their_type_when_a_network_is_cast():
    net, rows = lines()
    found, x = pack(net), rows(3)
    wanted = found(x)
    assert torch.equal(copy.deepcopy(found).type(torch.float32)(x), wanted)
    torch.testing.assert_close(copy.deepcopy(found).type(torch.float64)(x.double()).float(), wanted)
    state = {name: t.long() if name == "columns" else t for name, t in found.state_dict().items()}
    with pytest.raises(ValueError, match=r"state_dict: its columns are torch\.int64"):
        found.load_state_dict(state, assign=True)


def test_without_a_compiler_it_goes_through_torch(monkeypatch):
    net, rows = lines()
    found, x = pack(net), rows(3)
    monkeypatch.setattr(module, "native", lambda: None)
    torch.testing.assert_close(found(x), net(x).detach(), rtol=1e-5, atol=1e-6)


def test_columns_beyond_32767_are_read():
    net = nn.Linear(65_536, 2)
    with torch.no_grad():
        net.weight.zero_()[0, 65_535] = 2.0
        net.weight[1, 40_000] = -1.0
    x = torch.randn(17, 65_536)
    found = pack(net)
    for rows in (x, x[:1]):
        torch.testing.assert_close(found(rows), net(rows).detach())
        torch.testing.assert_close(found.by_torch(rows), net(rows).detach())


def test_rows_of_another_shape_are_refused():
    found = pack(lines()[0])
    with pytest.raises(ValueError, match=r"x: got shape \(2, 29\), wanted \(\.\.\., 30\)"):
        found(torch.zeros(2, 29))
    with pytest.raises(ValueError, match=r"x: got shape \(\), wanted"):
        found(torch.tensor(1.0))
    with pytest.raises(ValueError, match="x: got list, wanted a tensor"):
        found([0.0] * 30)
    pictures = pack(convolutions(0)[0])
    with pytest.raises(ValueError, match=r"x: got shape \(2, 1, 9, 8\), wanted \(N, 2, height, width\)"):
        pictures(torch.zeros(2, 1, 9, 8))
    with pytest.raises(ValueError, match="units where the network reads"):
        pictures(torch.zeros(2, 2, 20, 20))
    with pytest.raises(ValueError, match="too small"):
        pictures(torch.zeros(2, 2, 3, 2))


def test_it_can_be_exported():
    net, x = lines()[0], torch.randn(5, 30)
    exported = torch.export.export(pack(cut(net).network), (x,))
    torch.testing.assert_close(exported.module()(x), net(x), atol=1e-5, rtol=1e-5)
