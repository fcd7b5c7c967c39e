"""Normals of many posteriors: exact where the posterior is normal; those of credo.fit elsewhere."""

import warnings

import torch

import credo
from credo.inference.calibration.many_normals import Problems, normals
from credo.inference.gaussian.density import prepared
from credo.inference.gaussian.full_rank_normal import generator
from credo.inference.runtime.defaults import CPU, default_dtype
from credo.inference.runtime.state import entered
from tests.cases import calibration as cases

COUNTS = torch.tensor([[3.0, 2, 4, 1, 0, 3], [0.0, 0, 1, 0, 0, 2], [9.0, 7, 8, 11, 6, 9]])


def found(model, data, arguments, laplace=False):
    density, state, _ = prepared(model, data, CPU, 0)
    arguments = {i: value.double() for i, value in arguments.items()}
    with entered(state), default_dtype(torch.float64):
        return normals(Problems(density, arguments), generator(0, density.first), laplace=laplace)


def test_a_posterior_that_is_normal_is_found_exactly():
    y = torch.randn(5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = found(cases.regression, (cases.X, cases.X), {1: y})
    X = torch.stack([torch.ones(12), cases.X], 1).double()
    precision = torch.eye(2) + X.T @ X / 0.7**2
    torch.testing.assert_close(result.mean, torch.linalg.solve(precision, X.T @ y.T / 0.7**2).T, rtol=1e-6, atol=1e-6)
    covariance = (result.factor @ result.factor.mT)[3]
    torch.testing.assert_close(covariance, torch.linalg.inv(precision), rtol=1e-5, atol=1e-8)
    assert result.residual.max() < 1e-6 and not result.moving.any()


def test_elsewhere_the_normals_are_those_of_a_fit():
    both = found(cases.counts, (COUNTS[0],), {0: COUNTS}), found(cases.counts, (COUNTS[0],), {0: COUNTS}, laplace=True)
    for word, result in zip(("full_rank", "laplace"), both, strict=True):
        for i, y in enumerate(COUNTS):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a normal that is none
                fit = credo.fit(cases.counts, word, y, progress=False)
            u = fit.sample(20000)["rate"].double().log()
            assert abs(u.mean() - result.mean[i]) < 0.05 * u.std()
            assert abs(u.std() / result.factor[i, 0, 0] - 1) < 0.05
    assert (both[0].residual > 1e-6).all()  # no normal, which a closed form would need
