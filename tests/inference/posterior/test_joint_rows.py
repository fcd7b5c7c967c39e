"""Gaussian processes: predictions at new rows given the rows of the fit, compared with the posterior by its formula.

m* = K*' (K + s^2 I)^-1 y,   V* = K** - K*' (K + s^2 I)^-1 K*          (Rasmussen and Williams 2006, eq. 2.23-2.24)
"""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import MultivariateNormal

import credo
from credo.inference.posterior.joint_rows import draw_given_first, last_rows, stacked
from credo.inference.runtime.vectorise import draw

X = torch.linspace(-2.0, 2.0, 9)
Y = torch.sin(2 * X) + 0.1 * torch.tensor([1.0, -1.0, 0.5, 0.0, 1.0, -0.5, -1.0, 0.3, 0.8])
NEW = torch.tensor([-1.3, 0.2, 6.0])
S = 0.2
N = 4000


def kernel(a, b):
    return torch.exp(-0.5 * (a[:, None] - b) ** 2)


def posterior(new):
    """(means, sds) of new noisy observations."""
    solved = torch.linalg.solve(kernel(X, X) + S**2 * torch.eye(len(X)), kernel(X, new))
    return solved.T @ Y, (1 + S**2 - (kernel(new, X) @ solved).diagonal()).sqrt()


def observed(x, y=None):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    pyro.sample(
        "y", dist.MultivariateNormal(torch.zeros(len(x)), scale**2 * kernel(x, x) + S**2 * torch.eye(len(x))), obs=y
    )


def known_scale(x, y=None):
    pyro.sample("scale", dist.Delta(pyro.param("one", torch.tensor(1.0))))


def latent(x, y=None):
    f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(x)), kernel(x, x) + 1e-4 * torch.eye(len(x))))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(f, S), obs=y)


def exact_guide(x, y=None):
    """f | y, by its formula."""
    K = (kernel(X, X) + 1e-4 * torch.eye(len(X))).double()
    gain = torch.linalg.solve(K + S**2 * torch.eye(len(X)), K)
    loc = pyro.param("loc", (gain.T @ Y.double()).float())
    pyro.sample("f", dist.MultivariateNormal(loc, (K - K @ gain + 1e-6 * torch.eye(len(X))).float()))


def outputs(x, y=None):
    with pyro.plate("D", 2):
        covariance = kernel(x, x) + S**2 * torch.eye(len(x))
        y = None if y is None else y.T
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), covariance), obs=y)
    pyro.sample("free", dist.Normal(0.0, 1.0))


def outputs_guide(x, y=None):
    pyro.sample("free", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def close(draws, new):
    mean, sd = posterior(new)
    near_mean = (draws.mean(0) - mean).abs() < 5 * sd / N**0.5 + 0.005
    return bool(near_mean.all() and ((draws.std(0) / sd - 1).abs() < 0.06).all())


@pytest.mark.parametrize("pair", [(observed, known_scale), (latent, exact_guide)], ids=["observed", "latent"])
def test_new_rows_are_drawn_given_the_rows_of_the_fit(pair):
    fit = credo.fit(*pair, X, Y, steps=0, progress=False)
    draws = fit.predict(N, NEW)
    assert set(draws) - {"f"} == {"y"} and draws["y"].shape == (N, 3) and close(draws["y"], NEW)
    assert fit.predict(2, NEW[:1])["y"].shape == (2, 1)
    assert close(fit.predict(N, X + 0.25)["y"], X + 0.25)  # as many rows as the fit has


@pytest.mark.parametrize("pair", [(observed, known_scale), (latent, exact_guide)], ids=["observed", "latent"])
@pytest.mark.parametrize("new", [(), (X,), (X, Y)], ids=["nothing", "x", "x and y"])
def test_the_rows_of_the_fit_are_drawn_again_given_themselves(pair, new):
    assert close(credo.fit(*pair, X, Y, steps=0, progress=False).predict(N, *new)["y"], X)


def test_several_outputs_each_have_their_own_rows():
    fit = credo.fit(outputs, outputs_guide, X, torch.stack([Y, -Y], 1), steps=0, progress=False)
    draws = fit.predict(N, NEW)["y"]
    assert draws.shape == (N, 2, 3) and close(draws[:, 0], NEW) and close(-draws[:, 1], NEW)


def test_the_closed_form_posterior_predicts_the_same():
    exact = credo.exact(latent, X, Y)
    assert close(exact.predict(N, NEW)["y"], NEW) and close(exact.predict(N)["y"], X)


@pytest.mark.parametrize("pair", [(observed, known_scale), (latent, exact_guide)], ids=["observed", "latent"])
def test_new_rows_behind_those_of_the_fit_are_drawn_given_them(pair):
    fit, both = credo.fit(*pair, X, Y, steps=0, progress=False), torch.cat([X, NEW])
    found = [fit, credo.exact(latent, X, Y)] if pair[0] is latent else [fit]
    for one in found:
        draws = one.predict(N, both)["y"]
        assert draws.shape == (N, 12) and close(draws[:, 9:], NEW) and close(draws[:, :9], X)


def test_a_joint_draw_without_a_normal_for_further_rows_is_refused():
    def student(x, y=None):
        f = pyro.sample("f", dist.MultivariateStudentT(4.0, torch.zeros(len(x)), kernel(x, x).add(torch.eye(len(x)))))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(f, S), obs=y)

    def guide(x, y=None):
        pyro.sample("f", dist.Normal(pyro.param("loc", Y.clone()), 0.1).to_event(1))

    fit = credo.fit(student, guide, X, Y, steps=0, progress=False)
    with pytest.raises(ValueError, match=r"site 'f': one joint draw of all rows \(MultivariateStudentT\)"):
        fit.predict(3, torch.cat([X, NEW]))
    assert fit.predict(3, X)["y"].shape == (3, 9)

    def moves(x, y=None):
        f = pyro.sample("f", dist.MultivariateNormal(torch.full((len(x),), x.mean()), kernel(x, x) + torch.eye(len(x))))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(f, S), obs=y)

    with pytest.raises(ValueError, match=r"'f'.*no normal distribution that further rows leave as it is"):
        credo.fit(moves, guide, X, Y, steps=0, progress=False).predict(3, torch.cat([X, NEW]))


def test_the_prior_forgets_the_data():
    draws = credo.fit(observed, known_scale, X, Y, steps=0, progress=False).predict(N, NEW, prior=True)["y"]
    assert (draws.mean(0).abs() < 0.4).all()


def index_inside(y):
    t = torch.arange(float(len(y)))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(y)), scale * kernel(t, t) + torch.eye(len(y))), obs=y)


def walk(y=None, n=9):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    t = torch.arange(1.0, n + 1)
    K = torch.minimum(t[:, None], t) + 0.01 * torch.eye(n)
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(n), scale * K), obs=y)


def fixed_covariance(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.MultivariateNormal(w * x, kernel(X, X) + torch.eye(len(X))), obs=y)


def centred(x, y=None):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    x = x - x.mean() if len(x) < 12 else 2 * x
    pyro.sample("y", dist.MultivariateNormal(scale * x, kernel(x, x) + torch.eye(len(x))), obs=y)


@pytest.mark.parametrize(
    ("model", "data", "new", "reason"),
    [
        (index_inside, (Y,), (), "no argument that tells one row from another"),
        (index_inside, (Y,), (torch.zeros(12),), "no argument that tells one row from another"),
        (walk, (Y,), (), "no argument that tells one row from another"),
        (walk, (Y, 9), (), "no argument that tells one row from another"),
        (fixed_covariance, (X, Y), (NEW,), "does not run on the rows of the fit and the new ones together"),
        (centred, (X, Y), (NEW,), "further rows leave as it is"),
    ],
)
def test_rows_that_cannot_be_drawn_given_others_are_refused(model, data, new, reason):
    fit = credo.fit(model, "map", *data, steps=2, progress=False)
    with pytest.raises(ValueError, match=f"'y': one joint draw of all rows.*{reason}"):
        fit.predict(3, *new)


def correlated_columns(y):
    L = pyro.sample("L", dist.LKJCholesky(2, torch.tensor(1.0)))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), scale_tril=L), obs=y)


def one_vector(y):
    L = pyro.sample("L", dist.LKJCholesky(3, torch.tensor(1.0)))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(3), scale_tril=L), obs=y)


def one_vector_beside_a_number(y, steps=3):
    loc = pyro.sample("loc", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.sample("y", dist.MultivariateNormal(loc / steps, torch.eye(3) + 0.5), obs=y)


def counts(y):
    p = pyro.sample("p", dist.Dirichlet(torch.ones(len(y))))
    pyro.sample("y", dist.Multinomial(12, p), obs=y)


def independent(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(w * x, 0.1).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "data", "new"),
    [
        (correlated_columns, (torch.randn(8, 2),), (torch.zeros(3, 2),)),
        (one_vector, (torch.tensor([0.1, 0.5, -1.0]),), ()),
        (one_vector_beside_a_number, (torch.tensor([0.1, 0.5, -1.0]),), ()),
        (counts, (torch.tensor([3.0, 4.0, 5.0]),), ()),
        (independent, (X, Y), (NEW,)),
    ],
)
def test_near_by_programs_are_predicted_from_the_model(model, data, new):
    draws = credo.fit(model, None, *data, steps=2, progress=False).predict(3, *new)["y"]
    assert draws.shape == (3, *(new or data)[0].shape)


def test_a_draw_given_its_first_entries_has_the_conditional_moments():
    A = torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).double()
    fn = MultivariateNormal(torch.arange(5.0).double(), A @ A.T + torch.eye(5))
    first = torch.tensor([1.0, -2.0]).double()
    exact = credo.gaussian_conditional(fn.mean, fn.covariance_matrix, {0: 1.0, 1: -2.0})
    pyro.set_rng_seed(0)
    draws = draw(lambda: draw_given_first(fn, first), 20_000)
    assert torch.equal(draws[:, :2], first.expand(20_000, 2))
    assert torch.allclose(draws[:, 2:].mean(0), exact.mean, atol=0.06)
    assert torch.allclose(torch.cov(draws[:, 2:].T), exact.covariance_matrix, atol=0.4)


def test_rows_are_stacked_and_cut_where_arguments_have_them():
    both = stacked((X, 3.0, Y), (NEW, 4.0, None))
    assert torch.equal(both[0], torch.cat([X, NEW])) and both[1:] == (4.0, None)
    assert last_rows(torch.zeros(2, 12, 12), 12, 9).shape == (2, 3, 3)
