"""Values that Python reads from the data: the recording holds for them and for no others.

Oracle: the same run with compile=False, step for step.
"""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch import nn

import credo
from credo.inference.capture.record import NotCaptured, record

SEQUENCES = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


def chain(lengths, sequences):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("S", len(sequences)):
        for t in range(int(lengths.max())):
            with poutine.mask(mask=t < lengths):
                pyro.sample(f"y{t}", dist.Normal(a, 1.0), obs=sequences[:, t])


def scaled(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a, y.std().item()), obs=y)


def classes(labels):
    p = pyro.sample("p", dist.Dirichlet(torch.ones(int(labels.max()) + 1)))
    with pyro.plate("N", len(labels)):
        pyro.sample("l", dist.Categorical(p), obs=labels)


def looked_at(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    sd = 1.0 if (y.abs().sum() > 0).item() else 2.0
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a, sd), obs=y)


def checked(y):
    if (y > 100).any() or y.mean().isnan():
        raise ValueError("too large")
    scaled(y.clone())


def by_group(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    for k in torch.unique(GROUPS):
        pyro.sample(
            f"y{int(k)}", dist.Normal(a, 1.0).expand([int((k == GROUPS).sum())]).to_event(1), obs=y[k == GROUPS]
        )


GROUPS = torch.tensor([0, 1, 1, 2, 2, 2])
Y = SEQUENCES.flatten()


def both(model, data_at, n=50):
    """The runner of recorded steps, whose losses equal those of eager ones."""
    found = []
    for compile in (True, False):
        svi = credo.SVI(model, AutoNormal(model), plan="fast", compile=compile, progress=False)
        found.append((svi, [svi.step(*data_at(i)) for i in range(n)]))
    (svi, losses), (_, wanted) = found
    assert losses == pytest.approx(wanted, rel=1e-5)
    return svi


PROGRAMS = {
    "the longest sequence": (chain, (torch.tensor([3, 2, 4]), SEQUENCES)),
    "a standard deviation": (scaled, (Y,)),
    "the number of classes": (classes, (torch.tensor([0, 2, 1, 2]),)),
    "a check of the data": (checked, (Y,)),
    "groups of a constant": (by_group, (Y[:6],)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_read_their_data_are_replayed(name):
    model, data = PROGRAMS[name]
    assert both(model, lambda i: data).plan.compiled.startswith("captured once")


def test_other_values_have_a_recording_of_their_own():
    lengths = [torch.tensor([3, 2, 4]), torch.tensor([4, 1, 1]), torch.tensor([2, 2, 1])]  # longest: 4, 4, 2
    svi = both(chain, lambda i: (lengths[i // 25 % 3], SEQUENCES), 110)
    assert [key.read for key in svi._captures.recorded] == [(4,), (2,)]


def test_a_change_of_the_data_in_place_is_seen():
    def lengths_at(i):
        if i in (0, 30):
            lengths.fill_(2 if i else 4)
        return lengths, SEQUENCES

    lengths = torch.tensor([1, 1, 1])
    svi = both(chain, lengths_at, 60)
    assert [key.read for key in svi._captures.recorded] == [(4,), (2,)]


def test_values_that_are_others_in_each_step_are_not_recorded_again_and_again():
    svi = both(scaled, lambda i: (Y + (Y * i / 7 if i > 25 else 0),))
    assert svi.plan.compiled.startswith("eager: Python reads a value of the data that changes from step to step")


def test_what_hangs_on_rows_of_a_batch_a_latent_noise_or_a_buffer_is_not_read():
    net = nn.BatchNorm1d(1)

    def of_a_latent(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(a, 1.0 + 0 * int((a + y.mean()).item() > 0)).expand([len(y)]).to_event(1), obs=y)

    def of_a_buffer(y):
        net(y[:, None])
        net.running_mean.mean().item()
        scaled(y)

    def of_noise(y):
        (y * torch.rand(len(y))).mean().item()
        scaled(y)

    for model, options in ((looked_at, {"batch_size": 5}), (of_a_latent, {}), (of_a_buffer, {}), (of_noise, {})):
        svi = credo.SVI(model, AutoNormal(model), plan="fast", progress=False, **options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)  # of noise outside of a sample site
            for _ in range(30):
                svi.step(Y)
        assert svi.plan.compiled.startswith("eager: Python reads the value of a tensor that changes"), model.__name__


def through_a_view_of_a_latent(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    m = torch.zeros(2)
    m[0] = a
    pyro.sample("y", dist.Normal(a, 2.0 if m.sum() > 2 else 1.0).expand([len(y)]).to_event(1), obs=y)


def through_a_view_of_the_data(y):
    m = y.clone()
    m[0] = 0.0
    looked_at(y + 0 * int(m.abs().sum() * 10))


@pytest.mark.parametrize("model", [through_a_view_of_a_latent, through_a_view_of_the_data])
def test_what_was_written_into_is_not_read(model):
    svi = credo.SVI(model, AutoNormal(model), plan="fast", progress=False)
    for _ in range(30):
        svi.step(Y)
    assert svi.plan.compiled.startswith("eager: Python reads the value of a tensor that changes")


def test_the_recording_tells_what_was_read():
    x, c = torch.tensor([1.0, 5.0]), torch.tensor([2.0, 3.0])
    leaf = torch.ones(1)

    def program():
        return [leaf * int((x * c).sum()) + x.sum()]

    recording = record(program, [leaf, x], data=[1])
    reads = recording.reads
    assert reads.values == (17.0,) and reads.positions == [1] and [t.tolist() for t in reads.constants] == [[2.0, 3.0]]
    assert reads.now(reads.needed([leaf, torch.tensor([2.0, 2.0])])) == (10.0,)
    with pytest.raises(NotCaptured, match="Python reads the value"):
        record(program, [leaf, x])  # unless it is told that x are data


def test_a_recording_without_reads_has_none():
    x = torch.ones(2)
    assert record(lambda: [x * 2], [x], data=[0]).reads is None
