"""The last layer: scikit-learn's and credo's exact regression, the bound below the evidence, its maximum."""

import pytest
import torch
from sklearn.linear_model import BayesianRidge
from torch import nn

import credo
from credo.models.linear_regression import model
from credo.treatments import last_layer as file
from credo.treatments.last_layer import exact, last_layer, moments, prior_shape
from credo.treatments.likelihood import likelihood
from credo.treatments.treatment import Budget

CPU = torch.device("cpu")
QUIET = {"progress": False, "compile": False}


def rows(n=30, d=3):
    torch.manual_seed(0)
    a = torch.randn(n, d, dtype=torch.float64)
    return a, a @ torch.tensor([1.0, -1.0, 0.3]).double() + 0.6 * torch.randn(n, dtype=torch.float64)


def test_numbers_have_the_posterior_of_sklearn_at_the_same_evidence():
    a, y = rows()
    found = exact(a, y, torch.ones(3).double())
    # Without hyperpriors BayesianRidge maximises the same evidence.
    flat = {"alpha_1": 0, "alpha_2": 0, "lambda_1": 0, "lambda_2": 0}
    theirs = BayesianRidge(fit_intercept=False, max_iter=5000, tol=1e-12, compute_score=True, **flat).fit(
        a.numpy(), y.numpy()
    )
    assert found.noise.item() == pytest.approx(theirs.alpha_**-0.5, rel=1e-5)
    assert found.scale.item() == pytest.approx(theirs.lambda_**-0.5, rel=1e-4)
    assert found.loc[0].tolist() == pytest.approx(theirs.coef_.tolist(), rel=1e-5)
    cov = found.root[0] @ found.root[0].mT
    torch.testing.assert_close(cov, torch.tensor(theirs.sigma_), rtol=1e-4, atol=1e-8)
    _, sd = theirs.predict(a[:4].numpy(), return_std=True)
    variance = moments(a[:4], found)[1][:, 0] + found.noise**2
    torch.testing.assert_close(variance.sqrt(), torch.tensor(sd), rtol=1e-5, atol=0)


def test_numbers_have_the_posterior_and_evidence_of_credo_exact():
    """The features are those of `linear_regression` with its bias, whose prior is that of the coefficients."""
    a, y = rows()
    ones = torch.cat([a, torch.ones(30, 1).double()], 1)
    found = exact(ones, y, torch.ones(4).double())
    theirs = credo.exact(lambda X, y: model(X, y, sigma=found.noise.item(), prior_sd=found.scale.item()), a, y)
    assert found.bound == pytest.approx(theirs.log_evidence, abs=1e-6)
    torch.testing.assert_close(found.loc[0], theirs.joint.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.root[0] @ found.root[0].mT, theirs.joint.covariance_matrix, rtol=0, atol=1e-6)


def test_the_treatment_predicts_in_one_pass():
    torch.manual_seed(0)
    x = torch.randn(60, 2)
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3))
    y = (x[:, 0] > 0).long() + (x[:, 1] > 1).long()
    trained = last_layer(net, x, y, Budget(60, 20, 0.02, device=CPU))
    p = trained.predict(x, 7)
    assert p.shape == (1, 60, 3) and (p[0].argmax(-1) == y).double().mean() > 0.8
    assert "bound" in trained.words and trained.numbers == 33 + 3 * 21
    one = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1, bias=False))
    found = last_layer(one, x, 50 + 9 * x[:, 0], Budget(60, 20, 0.02, device=CPU))
    mean, sd = found.predict(x, 1)[0].unbind(-1)
    assert "log evidence" in found.words and (sd > 0).all()
    assert (mean - 50 - 9 * x[:, 0]).abs().mean() < 3


def test_networks_of_another_end_are_refused():
    x, y = torch.randn(8, 2), torch.randn(8)
    with pytest.raises(ValueError, match="got 2 outputs for numbers, wanted one"):
        last_layer(nn.Linear(2, 2), x, y, Budget(1, 4, 0.1, device=CPU))
    with pytest.raises(ValueError, match=r"is not that of its last nn\.Linear"):
        ends = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
        last_layer(ends, x, (y > 0).long(), Budget(1, 4, 0.1, device=CPU))
    assert prior_shape(nn.Linear(4, 1)).tolist() == [0.5] * 4 + [1.0]
    assert likelihood(nn.Linear(2, 2), x, (y > 0).long()).classes


@pytest.mark.parametrize("rows", [1, 8])
def test_numbers_that_are_all_the_same_are_refused(rows):
    x, y = torch.randn(rows, 3), torch.full((rows,), 3.0)
    with pytest.raises(ValueError, match=rf"y: got 3 in all of its {rows} rows, .*evidence grows without bound"):
        last_layer(nn.Linear(3, 1), x, y, Budget(3, 8, 1e-3, 0, CPU))


def test_numbers_without_noise_have_the_noise_of_rounding():
    a, _ = rows(40)
    a, w = a.float(), torch.tensor([1.0, -1.0, 0.3])
    found = exact(a, a @ w, torch.ones(3))
    eps = torch.finfo(torch.float32).eps
    assert eps * (1 - 1e-6) <= found.noise.item() < 10 * eps
    torch.testing.assert_close(found.loc[0], w, rtol=1e-5, atol=0)


def test_a_batch_of_one_row_is_not_all_rows():
    pair, x = credo.load("bnn_last_layer"), torch.randn(6, 3)
    fit = credo.fit(pair.model, pair.guide, nn.Linear(3, 1), x, x[:, 0], batch_size=1, steps=2, **QUIET)
    assert fit.params["sigma"] > 0


def test_the_body_of_classes_has_a_standard_normal_prior(monkeypatch):
    """Of N rows the mean loss has log p(w) / N, so Adam's decay of the weights is w / N."""
    asked = []

    def stop(*args, **named):
        asked.append(named)
        raise KeyboardInterrupt  # nothing is trained

    monkeypatch.setattr(file, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        last_layer(nn.Linear(3, 2), torch.randn(40, 3), torch.arange(40) % 2, Budget(3, 8, 1e-3, 0, CPU))
    assert asked == [{"weight_decay": pytest.approx(1 / 40)}]
