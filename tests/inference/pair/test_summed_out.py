"""Finite latents summed out of the model: against sums over every joint value, written out here, one value at a time.

The pair of each test has a twin whose model does the sum by hand, as loops over the values; the ELBO of the two at the
same draws, and its gradients, must agree.
"""

import math
from itertools import combinations, product

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex

import credo
from credo.inference.objective.elbo import log_weights
from credo.inference.pair.batches import batch
from credo.inference.pair.costs import run
from credo.inference.pair.elimination import LogSums
from credo.inference.pair.pair import Pair
from credo.inference.posterior.likelihood import log_likelihood
from credo.inference.runtime.generators import noise
from credo.inference.runtime.sites import latent
from credo.inference.runtime.state import entered
from credo.inference.runtime.vectorise import each, repeat

pytestmark = pytest.mark.usefixtures("double")
X = torch.tensor([-2.1, 0.4, 1.7, 2.2], dtype=torch.float64)


def normal(x, loc, scale=1.0):
    return -0.5 * ((x - loc) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)


def locs(k=2):
    """A guide's draw of k means."""
    m = pyro.param("m", torch.linspace(-1.0, 1.3, k))
    s = pyro.param("s", torch.linspace(0.4, 0.9, k), constraint=dist.constraints.positive)
    return pyro.sample("loc", dist.Normal(m, s).to_event(1))


def guide(x, *rest):
    return locs()


def prior(k=2):
    return pyro.sample("loc", dist.Normal(torch.zeros(k), 3.0).to_event(1))


def weights(k=2):
    return pyro.param("w", torch.linspace(0.2, 1.0, k) / torch.linspace(0.2, 1.0, k).sum(), dist.constraints.simplex)


def total(values):
    """log sum exp of a list of scalars."""
    return torch.stack(list(values)).logsumexp(0)


def mixture(x):
    loc, w = prior(), weights()
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(w))
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)


def mixture_by_hand(x):
    loc, w = prior(), weights()
    pyro.factor("x", sum(total(w[k].log() + normal(v, loc[k]) for k in range(2)) for v in x))


def one_for_all(x):  # z stands outside of the plate
    loc, w = prior(), weights()
    z = pyro.sample("z", dist.Categorical(w))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)


def one_for_all_by_hand(x):
    loc, w = prior(), weights()
    pyro.factor("x", total(w[k].log() + sum(normal(v, loc[k]) for v in x) for k in range(2)))


def inside_and_outside(x):  # a site of all rows, one of each row, and one of neither
    loc, w = prior(), weights()
    a = pyro.sample("a", dist.Bernoulli(0.3))
    pyro.sample("y", dist.Normal(loc[0], 1.0), obs=x[0])
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(Vindex(torch.stack([w, w.flip(0)]))[a.long(), :]))
        pyro.sample("x", dist.Normal(loc[z] + 0.5 * a, 1.0), obs=x)


def inside_and_outside_by_hand(x):
    loc, w = prior(), weights()
    pyro.factor("y", normal(x[0], loc[0]))
    terms = []
    for a in range(2):
        own = w if a == 0 else w.flip(0)
        rows = sum(total(own[k].log() + normal(v, loc[k] + 0.5 * a) for k in range(2)) for v in x)
        terms.append(math.log(0.3 if a else 0.7) + rows)
    pyro.factor("x", total(terms))


def dependent(x):  # two sites of a row, the second drawn given the first, and a latent of the guide given both
    loc, w = prior(), weights()
    table = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    with pyro.plate("N", len(x)):
        a = pyro.sample("a", dist.Categorical(w))
        b = pyro.sample("b", dist.Categorical(table[a]))
        h = pyro.sample("h", dist.Normal(loc[a] + 1.0 * b, 1.0))
        pyro.sample("x", dist.Normal(h - 0.2 * b, 0.7), obs=x)


def dependent_guide(x):
    locs()
    with pyro.plate("N", len(x)):
        pyro.sample("h", dist.Normal(pyro.param("c", torch.tensor(0.8)) * x, 0.5))


def dependent_by_hand(x):
    loc, w = prior(), weights()
    table = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    with pyro.plate("N", len(x)):
        h = pyro.sample("h", dist.ImproperUniform(dist.constraints.real, (), ()))
    for n, v in enumerate(x):
        terms = (
            w[a].log() + table[a, b].log() + normal(h[n], loc[a] + b) + normal(v, h[n] - 0.2 * b, 0.7)
            for a, b in product(range(2), range(3))
        )
        pyro.factor(f"x{n}", total(terms))


MASK = torch.tensor([True, False, True, False])


def mixture_under(x, handler):
    loc, w = prior(), weights()
    with pyro.plate("N", len(x)), handler:
        z = pyro.sample("z", dist.Categorical(w))
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)


def masked(x):
    mixture_under(x, poutine.mask(mask=MASK))


def masked_by_hand(x):
    mixture_by_hand(x[MASK])


def scaled(x):
    mixture_under(x, poutine.scale(scale=2.5))


def scaled_by_hand(x):
    with poutine.scale(scale=1.0):
        loc, w = prior(), weights()
    pyro.factor("x", 2.5 * sum(total(w[k].log() + normal(v, loc[k]) for k in range(2)) for v in x))


ROWS = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def weighted_rows(x):
    mixture_under(x, poutine.scale(scale=ROWS))


def weighted_rows_by_hand(x):
    loc, w = prior(), weights()
    rows = (r * total(w[k].log() + normal(v, loc[k]) for k in range(2)) for v, r in zip(x, ROWS, strict=True))
    pyro.factor("x", sum(rows))


def chain(x):
    loc, w = prior(), weights()
    z = 0
    for t in pyro.markov(range(len(x))):
        z = pyro.sample(f"z{t}", dist.Categorical(Vindex(torch.stack([w, w.flip(0)]))[z, :]))
        pyro.sample(f"x{t}", dist.Normal(loc[z], 1.0), obs=x[t])


def forward(x, loc, w, mask=None):
    """log p(x) of a chain that begins in state 0, by the forward algorithm."""
    move = torch.stack([w, w.flip(0)]).log()
    alpha = torch.tensor([0.0, -torch.inf])
    for t, v in enumerate(x):
        alpha = (alpha[:, None] + move).logsumexp(0)
        if mask is None or mask[t]:
            alpha = alpha + torch.stack([normal(v, loc[k]) for k in range(2)])
    return alpha.logsumexp(0)


def chain_by_hand(x):
    pyro.factor("x", forward(x, prior(), weights()))


SEQUENCES = torch.tensor([[-2.1, 0.4, 1.7], [1.2, 0.3, -0.6], [0.9, -1.0, 3.0]], dtype=torch.float64)
LENGTHS = torch.tensor([3, 1, 2])


def chains(x):  # a plate of sequences, of lengths of their own
    loc, w = prior(), weights()
    with pyro.plate("S", len(x)):
        z = 0
        for t in pyro.markov(range(x.shape[1])):
            with poutine.mask(mask=t < LENGTHS):
                z = pyro.sample(f"z{t}", dist.Categorical(Vindex(torch.stack([w, w.flip(0)]))[z, :]))
                pyro.sample(f"x{t}", dist.Normal(loc[z], 1.0), obs=x[:, t])


def chains_by_hand(x):
    loc, w = prior(), weights()
    pyro.factor("x", sum(forward(row[:n], loc, w) for row, n in zip(x, LENGTHS, strict=True)))


WORDS = torch.tensor([[0, 2, 1, 0, 3], [3, 3, 2, 0, 1], [1, 1, 0, 2, 0]])  # of 3 documents


def lda(words):
    topics = pyro.sample("topics", dist.Dirichlet(torch.ones(2, 4)).to_event(1))
    with pyro.plate("documents", len(words), dim=-2):
        share = pyro.sample("share", dist.Dirichlet(torch.ones(2)))
        with pyro.plate("words", words.shape[1], dim=-1):
            z = pyro.sample("z", dist.Categorical(share))
            pyro.sample("w", dist.Categorical(topics[z]), obs=words)


def lda_guide(words):
    a = pyro.param("a", torch.linspace(1.0, 3.0, 8).reshape(2, 4), constraint=dist.constraints.positive)
    b = pyro.param("b", torch.linspace(0.7, 2.0, 6).reshape(3, 1, 2), constraint=dist.constraints.positive)
    pyro.sample("topics", dist.Dirichlet(a).to_event(1))
    with pyro.plate("documents", len(words), dim=-2):
        pyro.sample("share", dist.Dirichlet(b[: len(words)]))


def lda_by_hand(words):
    topics = pyro.sample("topics", dist.Dirichlet(torch.ones(2, 4)).to_event(1))
    with pyro.plate("documents", len(words), dim=-2):
        share = pyro.sample("share", dist.Dirichlet(torch.ones(2)))
    for d, document in enumerate(words):
        for i, word in enumerate(document):
            pyro.factor(f"w{d}_{i}", total(share[d, 0, k].log() + topics[k, word].log() for k in range(2)))


def impossible(x):  # of two boxes, one cannot hold most of the rows
    loc, w = prior(), weights()
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(w))
        low, high = torch.tensor([-2.0, -9.0]), torch.tensor([2.0, 9.0])
        pyro.sample("x", dist.Uniform(low[z], high[z] + loc[z] ** 2), obs=x)


def impossible_by_hand(x):
    loc, w = prior(), weights()
    for n, v in enumerate(x):
        boxes = ((k, low, high + loc[k] ** 2) for k, low, high in ((0, -2.0, 2.0), (1, -9.0, 9.0)))
        pyro.factor(f"x{n}", total(w[k].log() - (high - low).log() for k, low, high in boxes if low <= v < high))


PAIRS = {
    "mixture": (mixture, mixture_by_hand, guide, X),
    "one for all rows": (one_for_all, one_for_all_by_hand, guide, X),
    "inside and outside": (inside_and_outside, inside_and_outside_by_hand, guide, X),
    "dependent": (dependent, dependent_by_hand, dependent_guide, X),
    "mask": (masked, masked_by_hand, guide, X),
    "scale": (scaled, scaled_by_hand, guide, X),
    "scale of each row": (weighted_rows, weighted_rows_by_hand, guide, X),
    "chain": (chain, chain_by_hand, guide, X),
    "chains": (chains, chains_by_hand, guide, SEQUENCES),
    "topics": (lda, lda_by_hand, lda_guide, WORDS),
    "impossible": (impossible, impossible_by_hand, guide, X),
}


def begun(model, guide, *data, **options):
    return credo.SVI(model, guide, **options)._begin(data)


def density(pair, draws, vectorised):
    """log p(x, z) - log q(z) at each of the draws, shape (n,)."""

    def one(z):
        return sum((-1 if side == "guide" else 1) * cost.sum() for (side, _), cost in run(pair, z).costs.items())

    return each(one, draws, vectorised)


def draws_of(pair, n):
    """n draws of the guide, differentiable in its parameters."""
    return repeat(lambda: run(pair).z, n, False)


def slopes(value):
    leaves = dict(pyro.get_param_store().named_parameters())
    return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values()), retain_graph=True), strict=True))


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_the_elbo_and_its_gradients_are_those_of_the_sum_by_hand(name, vectorised):
    model, by_hand, guide, data = PAIRS[name]
    pair, ready = begun(model, guide, data)
    with entered(ready.state):
        draws = draws_of(pair, 3)
        value = density(pair, draws, vectorised)
        wanted = density(Pair(by_hand, guide, pair.data), draws, False)
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-9)
        found, expected = slopes(value.sum()), slopes(wanted.sum())
    assert found.keys() == expected.keys() and all(g.isfinite().all() for g in found.values())
    for key, slope in found.items():
        torch.testing.assert_close(slope, expected[key], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_is_drawn_at_once_and_its_plan_says_what_is_summed(name):
    model, _, guide, data = PAIRS[name]
    pair, ready = begun(model, guide, data)
    assert ready.vectorised or model is lda  # torch draws no Dirichlet under vmap
    summed = {e.site for e in ready.plan.entries if e.estimator == "summed out"}
    with entered(ready.state):
        own, all_sites = (latent(poutine.trace(program).get_trace(*pair.data)) for program in (guide, model))
    assert summed == all_sites.keys() - own.keys() != set()
    for entry in ready.plan.entries:
        if entry.site in summed:
            assert (entry.term, entry.baseline) == ("-", "-")
            assert "not in the guide: summed out of the model exactly" in entry.reason
    assert begun(model, guide, data, plan=ready.plan)[1].plan == ready.plan


@pytest.mark.parametrize(
    ("model", "data", "key", "shape", "plates"),
    [
        (mixture, X, "x", (4,), {"N": -1}),
        (one_for_all, X, "x", (), {}),
        (inside_and_outside, X, "x", (), {}),
        (chain, X, "x0", (), {}),
        (chains, SEQUENCES, "x0", (3,), {"S": -1}),
        (lda, WORDS, "w", (3, 5), {"documents": -2, "words": -1}),
    ],
)
def test_a_group_is_one_cost_over_the_plates_that_hold_all_of_it(model, data, key, shape, plates):
    pair, ready = begun(model, lda_guide if model is lda else guide, data)
    with entered(ready.state):
        _, costs, where, dims, _ = run(pair)
    assert costs["data", key].shape == shape
    assert dims["data", key] == plates and where["data", key] == set(plates)
    assert [name for side, name in costs if side == "data"] == (["y", key] if model is inside_and_outside else [key])
    latents = {"topics", "share"} if model is lda else {"loc"}
    assert {name for side, name in costs if side == "prior"} - {"N", "S", "documents", "words"} == latents


def test_a_long_chain_costs_no_more_than_its_length():
    x = torch.sin(torch.arange(100.0))
    pair, ready = begun(chain, guide, x)
    with entered(ready.state):
        z = draws_of(pair, 1)
        by_hand = Pair(chain_by_hand, guide, pair.data)
        torch.testing.assert_close(density(pair, z, False), density(by_hand, z, False), rtol=1e-9, atol=1e-9)


def test_what_is_nearly_impossible_keeps_its_gradient_in_single_precision():
    torch.set_default_dtype(torch.float32)
    x = torch.tensor([-300.0, 400.0])  # e^(-45,000) is 0, its logarithm is not
    pair, ready = begun(mixture, guide, x)
    with entered(ready.state):
        z = {"loc": torch.tensor([[-1.0, 1.0]], requires_grad=True)}
        density(pair, z, False).sum().backward()
        own = -z["loc"] / 9 + torch.tensor([[-299.0, 399.0]])
        m, s = pyro.param("m"), pyro.param("s")
    torch.testing.assert_close(z["loc"].grad, (own + (z["loc"] - m) / s**2).detach(), rtol=1e-4, atol=1e-3)


def test_a_prior_that_a_summed_site_moves_has_no_kl_of_its_own():
    def model(x):  # no draw moves the prior of h, but a does
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            a = pyro.sample("a", dist.Categorical(w))
            h = pyro.sample("h", dist.Normal(2.0 * a, 1.0))
            pyro.sample("x", dist.Normal(h + loc[0], 0.7), obs=x)

    _, ready = begun(model, dependent_guide, X)
    assert ready.plan.kl == {"loc"}


def test_the_mean_over_all_batches_is_the_whole():
    pair, ready = begun(mixture, guide, X, batch_size=2)
    with entered(ready.state):
        z = draws_of(pair, 2)
        whole = density(pair, z, True)
        parts = [density(batch(pair, ready.rows, torch.tensor(i)), z, True) for i in combinations(range(4), 2)]
        torch.testing.assert_close(torch.stack(parts).mean(0), whole)
        assert (parts[0] - whole).abs().min() > 0.1


def test_a_long_chain_without_markov_is_told_of_it():
    def model(x):
        loc, w = prior(), weights()
        z = 0
        for t in range(len(x)):
            z = pyro.sample(f"z{t}", dist.Categorical(Vindex(torch.stack([w, w.flip(0)]))[z, :]))
            pyro.sample(f"x{t}", dist.Normal(loc[z], 1.0), obs=x[t])

    with pytest.raises(ValueError, match=r"sites 'z0', 'z1', .* and 66 more: .* step through a chain with pyro.markov"):
        begun(model, guide, torch.zeros(70))


@pytest.mark.parametrize(("model", "site"), [(one_for_all, "z"), (inside_and_outside, "a")])
def test_batches_of_a_site_that_all_rows_share_are_refused(model, site):
    with pytest.raises(ValueError, match=f"site '{site}': summed out .* a batch cannot be scaled to the whole"):
        begun(model, guide, X, batch_size=2)


def test_scales_that_differ_within_a_group_are_refused():
    def model(x):
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
            with poutine.scale(scale=3.0):
                pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)

    with pytest.raises(ValueError, match=r"sites 'z', 'x': summed out .* 'z' is scaled by 1 and 'x' by 3"):
        begun(model, guide, X)


def test_a_plate_subsampled_by_the_pair_counts_for_all_of_its_rows():
    def model(x):
        loc, w = prior(), weights()
        with pyro.plate("N", len(x), subsample_size=2) as rows:
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x[rows])

    def sub_guide(x):
        locs()
        pyro.plate("N", len(x), subsample_size=2)._indices  # noqa: B018  # draws the rows

    pair, ready = begun(model, sub_guide, X)
    by_hand = Pair(mixture_by_hand, guide, pair.data)
    with entered(ready.state):
        loc = {k: v for k, v in draws_of(pair, 1).items() if k == "loc"}
        parts = [density(pair, loc | {"N": torch.tensor([i])}, False) for i in combinations(range(4), 2)]
        torch.testing.assert_close(torch.stack(parts).mean(0), density(by_hand, loc, False))


@pytest.mark.parametrize("seed", range(5))
def test_a_value_inside_the_support_for_some_value_of_the_site_is_enough(seed):
    assert begun(impossible, guide, X, seed=seed)[1].summed.sites == {"z"}
    with pytest.raises(ValueError, match=r"site 'x': 1 of 4 observed values lie outside the support"):
        begun(impossible, guide, torch.tensor([0.0, 1.0, 2.5, -9.5]), seed=seed)


def test_a_single_row_keeps_its_plate():
    pair, ready = begun(mixture, guide, X[:1])
    with entered(ready.state):
        assert run(pair).costs["data", "x"].shape == (1,)
    fit = credo.fit(mixture, guide, X, steps=3, progress=False)
    assert log_likelihood(fit, 10, X[:1]).values.shape == (1,)


def test_tables_are_summed_as_in_one_big_sum_and_a_dead_value_has_no_gradient():
    shapes = {"ab": (2, 3), "bc": (3, 4), "cd": (4, 2), "db": (2, 3), "e": (3,), "p": (5,), "pa": (5, 2)}
    leaves = {dims: torch.randn(shape, requires_grad=True) for dims, shape in shapes.items()}

    def dead(dims):  # value 1 of b is impossible whatever a and c are
        t = leaves[dims] + 0.0
        return t.index_fill(dims.index("b"), torch.tensor([1]), -torch.inf) if dims in ("ab", "bc") else t

    big = torch.einsum(",".join(shapes) + "->p", *(dead(dims).exp() for dims in shapes)).log()
    wanted = torch.autograd.grad(big.sum(), list(leaves.values()))
    tables = [dead(dims) for dims in shapes]
    for table, dims in zip(tables, shapes, strict=True):
        table._pyro_dims = dims
    found = LogSums().sumproduct(tables, set("abcde"))
    torch.testing.assert_close(torch.Tensor(found), big)
    for one, two in zip(torch.autograd.grad(found.sum(), list(leaves.values())), wanted, strict=True):
        torch.testing.assert_close(one, two)


def test_a_density_that_is_no_number_stays_none():
    table = torch.tensor([0.0, torch.nan])
    table._pyro_dims = "a"
    assert LogSums().sumproduct([table], {"a"}).isnan()


def test_an_infinite_site_that_the_guide_lacks_is_still_an_error():
    def model(x):
        loc = prior()
        with pyro.plate("N", len(x)):
            n = pyro.sample("n", dist.Poisson(2.0))
            pyro.sample("x", dist.Normal(loc[0] * n, 1.0), obs=x)

    with pytest.raises(ValueError, match="the guide has no site 'n'"):
        begun(model, guide, X)


def test_rows_of_one_event_are_still_an_error():
    def model(x):
        loc = prior()
        z = pyro.sample("z", dist.Bernoulli(0.5).expand([4]).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(loc[z.long()], 1.0), obs=x)

    with pytest.raises(ValueError, match="the guide has no site 'z'"):
        begun(model, guide, X)


def branch(z, loc):
    return loc[1] if z > 0 else loc[0]


def shape(z, loc):
    return torch.stack([loc[0] + k for k in z.expand(4).unbind()])


@pytest.mark.parametrize("mean", [branch, shape], ids=lambda f: f.__name__)
def test_a_model_that_fails_with_all_values_at_once_is_refused_by_name(mean):
    def model(x):
        loc, w = prior(), weights()
        z = pyro.sample("z", dist.Categorical(w))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(mean(z, loc), 1.0), obs=x)

    with pytest.raises(ValueError, match=r"site 'z': not in the guide.*broadcast.*There the model raised") as caught:
        begun(model, guide, X)
    assert caught.value.__cause__ is not None


def test_a_model_that_goes_wrong_without_a_word_is_refused_too():
    def model(x):  # the sum over rows is one over values when these come at once
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
        pyro.sample("n", dist.Normal(z.sum() + loc[0], 1.0), obs=x[0])

    with pytest.raises(ValueError, match=r"site 'z': .* There the density of 'n' is not what it is with one value"):
        begun(model, guide, X)


def test_rows_that_meet_again_would_take_every_combination_and_are_refused():
    def model(x):  # two plates that cross, a site for each row of each
        loc, w = prior(), weights()
        one, two = pyro.plate("one", 4, dim=-2), pyro.plate("two", 4, dim=-1)
        with one:
            a = pyro.sample("a", dist.Categorical(w))
        with two:
            b = pyro.sample("b", dist.Categorical(w))
        with one, two:
            pyro.sample("x", dist.Normal(loc[a] * loc[b], 1.0), obs=x.expand(4, 4))

    with pytest.raises(ValueError, match=r"sites 'a', 'b', 'x': .* every combination of values"):
        begun(model, guide, X)


def test_a_site_whose_probabilities_do_not_add_up_is_refused():
    def model(x):
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w).mask(MASK))
            pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)

    with pytest.raises(ValueError, match=r"site 'z': .* do not add up to one"):
        begun(model, guide, X)


def em(x, loc, w, rounds=500):
    """The maximum of sum_n log sum_k w_k N(x_n; loc_k, 1), by EM in NumPy."""
    for _ in range(rounds):
        joint = w * np.exp(-0.5 * (x[:, None] - loc) ** 2)
        share = joint / joint.sum(1, keepdims=True)
        loc, w = (share * x[:, None]).sum(0) / share.sum(0), share.mean(0)
    return loc, w


def two_groups():
    with noise(1):
        return torch.cat([torch.randn(60) - 3, torch.randn(140) + 2])


def free_mixture(x):
    w = pyro.sample("w", dist.Dirichlet(torch.ones(2)))
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 5.0).to_event(1))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(w))
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)


def test_maximum_likelihood_of_a_mixture_is_that_of_em():
    x = two_groups()
    fit = credo.fit(free_mixture, "mle", x, steps=600, progress=False)
    q = fit.sample(1)
    loc, w = em(x.numpy(), np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(q["loc"][0].sort().values, np.sort(loc), atol=2e-3)
    np.testing.assert_allclose(q["w"][0][q["loc"][0].argsort()], w[np.argsort(loc)], atol=2e-3)


def test_the_automatic_guide_recovers_the_components_and_leaves_the_finite_site_out():
    x = two_groups()
    fit = credo.fit(free_mixture, None, x, steps=600, progress=False)
    q = fit.sample(2000)
    assert q.keys() == {"w", "loc"}
    order = q["loc"].mean(0).argsort()
    loc, w = em(x.numpy(), np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
    n = torch.tensor([60.0, 140.0])
    assert ((q["loc"].mean(0)[order] - torch.tensor(np.sort(loc))).abs() < 0.5 / n.sqrt()).all()
    torch.testing.assert_close(q["loc"].std(0)[order], 1 / n.sqrt(), rtol=0.25, atol=0)
    torch.testing.assert_close(q["w"].mean(0)[order], torch.tensor(w[np.argsort(loc)]), rtol=0, atol=0.03)
    new = fit.predict(2000)  # z of a new row is drawn from its prior
    share = (new["z"] == order[1]).double().mean()
    torch.testing.assert_close(share, q["w"].mean(0)[order[1]], rtol=0, atol=0.02)
    torch.testing.assert_close(new["x"].mean(), x.mean(), rtol=0, atol=0.2)


def test_a_model_of_finite_sites_and_parameters_alone_needs_no_guide():
    def model(x):
        m, w = pyro.param("m", torch.tensor([-1.0, 1.0])), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(m[z], 1.0), obs=x)

    x = two_groups()
    fit = credo.fit(model, None, x, progress=False)
    loc, w = em(x.numpy(), np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(fit.params["m"], loc, atol=2e-3)
    np.testing.assert_allclose(fit.params["w"], w, atol=2e-3)


class ByQuadrature:
    """The exact posterior of one mean, the other known, on a grid."""

    def __init__(self, x):
        grid = torch.linspace(-8, 8, 4001)
        joint = dist.Normal(0.0, 3.0).log_prob(grid)
        for v in x:
            joint = joint + torch.stack(
                [math.log(0.4) + normal(v, grid), math.log(0.6) + normal(v, 1.5).expand(4001)]
            ).logsumexp(0)
        self.log_evidence = (joint.logsumexp(0) + (grid[1] - grid[0]).log()).item()
        p = (joint - joint.logsumexp(0)).exp()
        mean = (p * grid).sum()
        self.marginals = {"loc": dist.Normal(mean, (p * (grid - mean) ** 2).sum().sqrt())}


def half_known(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 3.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Bernoulli(0.6))
        pyro.sample("x", dist.Normal(torch.where(z > 0, 1.5, loc), 1.0), obs=x)


def test_the_evidence_gap_is_that_of_quadrature():
    x = torch.cat([two_groups()[:20], two_groups()[-20:]])
    fit = credo.fit(half_known, None, x, progress=False)
    table = credo.compare(fit, ByQuadrature(x))
    assert table["kl"].iloc[0] < 0.01
    assert -4 * table.attrs["elbo_error"] - 1e-3 < table.attrs["evidence_gap"] < 0.02


def test_the_likelihood_of_a_row_sums_its_site_out():
    x = two_groups()[50:70]
    fit = credo.fit(half_known, None, x, steps=200, progress=False)
    found = log_likelihood(fit, 4000)
    loc = fit.sample(20000)["loc"]
    rows = torch.stack([math.log(0.4) + normal(x, loc[:, None]), math.log(0.6) + normal(x, 1.5).expand(20000, -1)])
    wanted = rows.logsumexp(0).logsumexp(0) - math.log(20000)
    assert ((found.values - wanted).abs() < 5 * found.errors + 1e-2).all()
    fit = credo.fit(lda, lda_guide, WORDS, steps=5, progress=False)
    assert log_likelihood(fit, 10).values.shape == (3,)


def test_the_likelihood_of_rows_that_share_a_site_is_refused():
    fit = credo.fit(one_for_all, guide, X, steps=5, progress=False)
    with pytest.raises(
        ValueError, match=r"site 'z': summed out of the model, outside of the plate over rows .* likelihood of its own"
    ):
        log_likelihood(fit, 10)


def test_observations_left_out_are_not_summed_out():
    def model(x, y=None):
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)
            pyro.sample("y", dist.Bernoulli(0.2 + 0.5 * z), obs=y)

    fit = credo.fit(model, guide, X, torch.tensor([0.0, 1.0, 1.0, 1.0]), steps=5, progress=False)
    with pytest.raises(ValueError, match="site 'y' is not observed"):
        log_likelihood(fit, 10, X)


def test_sites_of_the_guide_that_need_the_score_meet_those_summed_out():
    def model(x):  # n is of the guide, infinite; z is summed out between it and the data
        loc, w = prior(), weights()
        n = pyro.sample("n", dist.Poisson(2.0))
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(loc[z] + 0.3 * n, 1.0), obs=x)

    def score_guide(x):
        locs()
        pyro.sample("n", dist.Poisson(pyro.param("rate", torch.tensor(1.5), constraint=dist.constraints.positive)))

    runner = credo.SVI(model, score_guide, particles=20)
    pair, ready = runner._begin((X,))
    assert ready.plan.estimator("n") == "score" and ready.plan.estimator("z") == "summed out"
    with entered(ready.state):
        with torch.no_grad():
            loc = draws_of(pair, 4000)["loc"]
        rate = pyro.param("rate")
        value = 0.0
        for n in range(25):
            rows = torch.stack([weights()[k].log() + normal(X, loc[:, k, None] + 0.3 * n) for k in range(2)])
            log_q = dist.Poisson(rate).log_prob(torch.tensor(float(n)))
            cost = rows.logsumexp(0).sum(1).mean() + dist.Poisson(2.0).log_prob(torch.tensor(float(n))) - log_q
            value = value + log_q.exp() * cost
        wanted = -slopes_of(value, "rate")
    draws = torch.stack([runner.gradients(X)["rate"] for _ in range(100)])
    assert (draws.mean() - wanted).abs() < 4 * draws.std() / 100**0.5 + 0.05 * wanted.abs()


def slopes_of(value, name):
    return torch.autograd.grad(value, dict(pyro.get_param_store().named_parameters())[name])[0]


def test_finite_sites_of_the_guide_meet_those_summed_out():
    def model(x):  # k is summed over by the guide, z by the model
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.3))
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(loc[z] + k, 1.0), obs=x)

    def both_guide(x):
        locs()
        with pyro.plate("N", len(x)):
            pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.4)) * x))

    pair, ready = begun(model, both_guide, X)
    assert ready.plan.estimator("k") == "enumerate" and ready.plan.estimator("z") == "summed out"
    with entered(ready.state), noise(5), torch.no_grad():
        value = log_weights(pair, 3000, True, ready.plan.recipe)
        loc = torch.distributions.Normal(pyro.param("m"), pyro.param("s")).sample((20000,))
        q, w = torch.sigmoid(pyro.param("u") * X), pyro.param("w")
        wanted = -torch.distributions.kl_divergence(
            torch.distributions.Normal(pyro.param("m"), pyro.param("s")), torch.distributions.Normal(0.0, 3.0)
        ).sum()
        for k, (own, its) in enumerate([(1 - q, 0.7), (q, 0.3)]):
            rows = torch.stack([w[j].log() + normal(X, loc[:, j, None] + k) for j in range(2)]).logsumexp(0)
            wanted = wanted + (own * (rows.mean(0) + math.log(its) - own.log())).sum()
    assert (value.mean() - wanted).abs() < 5 * value.std() / 3000**0.5
