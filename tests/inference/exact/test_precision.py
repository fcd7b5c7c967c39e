"""Models in single precision: recognised, and computed in double precision."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.exact.precision import in_double, is_narrow

torch.manual_seed(0)
NOISE = torch.randn(20, dtype=torch.float64)


def near(one, two, relative=1e-8):
    torch.testing.assert_close(
        torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(two, dtype=torch.float64), rtol=relative, atol=1e-9
    )


SINGLE = torch.ones(20, dtype=torch.float32) * 2


def in_single(x):
    w = pyro.sample("w", dist.Normal(torch.zeros(3, dtype=torch.float32), 1.0).to_event(1))
    pyro.sample("x", dist.Normal((SINGLE[:, None].expand(20, 3) @ w).float(), 1.0).to_event(1), obs=x.float())


def test_a_model_in_single_precision_is_widened():
    found = credo.exact(in_single, NOISE.float())
    precision = torch.eye(3, dtype=torch.float64) + 20 * 4.0
    near(found.joint.covariance_matrix, torch.linalg.inv(precision))
    near(found.joint.mean, torch.linalg.solve(precision, 2.0 * NOISE.float().double().sum().expand(3)))
    assert torch.get_default_dtype() == torch.float32


def by_default(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(w * torch.ones(3), 1.0).to_event(1), obs=x)


def with_a_constant(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(w * SINGLE[:3], 1.0).to_event(1), obs=x)


def with_a_conversion(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(w.float(), 1.0).expand([3]).to_event(1), obs=x)


@pytest.mark.parametrize(("model", "narrow"), [(by_default, False), (with_a_constant, True), (with_a_conversion, True)])
def test_single_precision_inside_of_a_model_is_noticed(model, narrow):
    with in_double(), pyro.validation_enabled(False):  # which reads the values of the latents
        assert is_narrow(model, (NOISE[:3],)) == narrow


def test_a_branch_on_a_latent_is_refused_by_name():
    def branch():
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(w if w > 0 else -w, 1.0), obs=torch.ones(()))

    refused = pytest.raises(credo.NoClosedForm, match="'w': the model reads its value from Python")
    with in_double(), pyro.validation_enabled(False), refused:
        is_narrow(branch, ())


def test_results_are_double_inside_and_as_before_outside():
    with in_double():
        assert torch.ones(2).dtype == torch.float64 and (SINGLE * 2).dtype == torch.float32
    with in_double(narrow=True):
        assert (SINGLE * 2).dtype == NOISE.float().dtype == torch.zeros(2, dtype=torch.float32).dtype == torch.float64
    assert torch.ones(2).dtype == SINGLE.dtype == (SINGLE * 2).dtype == torch.float32
