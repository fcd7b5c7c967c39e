"""Steps without a finite loss are skipped and counted; too many end the run."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions.constraints import positive

import credo
from credo.inference.stepping.bad_steps import FROM, ROW, SHARE, BadSteps, NotFinite
from credo.inference.stepping.steps import StepBlock


def block(*losses):
    return StepBlock(list(losses), torch.zeros(1))


NAN = float("nan")


def test_good_steps_are_counted_and_give_no_warning():
    bad = BadSteps()
    assert bad.add(block(1.0, 2.0)) == 2 and bad.add(block(3.0)) == 1
    assert (bad.good, bad.count, bad.warning) == (3, 0, "")


def test_a_bad_step_is_counted_with_its_reason():
    bad = BadSteps()
    assert bad.add(block(1.0, NAN)) == 1
    bad.add_error(ValueError("scale must be positive\nand more"))
    assert "2 of 3 steps were skipped" in bad.warning and "-ELBO became nan at step 2" in bad.warning
    assert "scale" not in bad.warning  # the first reason is said


def test_a_row_of_bad_steps_ends_the_run_at_the_first_of_them():
    bad = BadSteps()
    for _ in range(ROW - 1):
        bad.add(block(NAN))
    bad.add(block(1.0))  # begins another row
    for _ in range(ROW - 1):
        bad.add(block(float("inf")))
    with pytest.raises(NotFinite, match=f"-ELBO became inf at step {ROW + 1}, as in {ROW} steps in a row"):
        bad.add(block(float("inf")))


@pytest.mark.parametrize(("share", "ends"), [(SHARE / 2, False), (SHARE + 0.1, True)])
def test_a_share_of_bad_steps_ends_the_run_once_it_is_long_enough(share, ends):
    bad, every = BadSteps(), round(1 / share)
    try:
        for step in range(1, 20 * FROM):
            bad.add(block(NAN if step % every == 0 else 1.0))
    except NotFinite as error:
        assert ends and "steps were bad" in str(error) and step >= FROM
    else:
        assert not ends


@pytest.mark.parametrize("error", [ValueError("no"), ZeroDivisionError("no"), torch.linalg.LinAlgError("no")])
def test_an_error_about_numbers_is_the_cause(error):
    bad = BadSteps(row=2)
    bad.add_error(error)
    with pytest.raises(NotFinite, match="no") as caught:
        bad.add_error(error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (RuntimeError("shapes"), 3),
        (IndexError("index"), 3),
        (NotImplementedError("never"), 1),
        (torch.OutOfMemoryError("no room"), 1),
        (RuntimeError("DefaultCPUAllocator: no room"), 1),
    ],
)
def test_another_error_is_raised_as_it_is(error, times):
    """At once if another draw cannot mend it."""
    bad = BadSteps(row=3)
    for _ in range(times - 1):
        bad.add_error(error)
    with pytest.raises(type(error), match=str(error)):
        bad.add_error(error)


X = torch.linspace(-1.0, 1.0, 21)
Y = 2.0 * X + 0.5 * torch.sin(7.0 * X)


def raise_value(a):
    if a < 0.5:
        raise ValueError("the slope must be at least 0.5")


def raise_assertion(a):
    assert a > 0.5


def raise_runtime(a):
    if a < 0.5:
        raise RuntimeError("the solver did not converge")


def no_cholesky(a):
    torch.linalg.cholesky(torch.eye(2) * (a - 0.5))


def not_finite(a):
    pyro.factor("above", torch.where(a > 0.5, 0.0, torch.nan))


@pytest.mark.parametrize(
    ("fail", "batch_size"),
    [
        (raise_value, None),
        (raise_assertion, None),
        (raise_runtime, None),
        (no_cholesky, None),
        (not_finite, None),
        pytest.param(raise_value, 7, marks=pytest.mark.slow),
        (no_cholesky, 7),
    ],
)
def test_a_model_that_fails_at_a_quarter_of_the_first_draws_is_fitted(fail, batch_size):
    def model(x, y):
        a = pyro.sample("a", dist.Normal(1.0, 1.0))
        fail(a)
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(a * x, 0.5), obs=y)

    def guide(x, y):
        m, s = pyro.param("m", torch.tensor(1.0)), pyro.param("s", torch.tensor(0.75), constraint=positive)
        pyro.sample("a", dist.Normal(m, s))  # below 0.5 with probability 0.25

    with pytest.warns(UserWarning, match="steps were skipped; the first"):
        fit = credo.fit(model, guide, X, Y, steps=600, lr=0.03, batch_size=batch_size, compile=False, progress=False)
    precision = 1.0 + (X**2).sum() / 0.25  # conjugate; the posterior is 6 sds above 0.5
    assert abs(fit.params["m"] - (1.0 + (X * Y).sum() / 0.25) / precision) < 0.25 * precision**-0.5
    assert abs(fit.params["s"] * precision**0.5 - 1) < 0.2
    assert fit.plan.entries[0].estimator == "pathwise"


def test_a_model_that_never_fails_skips_no_step():
    def model(x, y):
        a = pyro.sample("a", dist.Normal(1.0, 1.0))
        no_cholesky(a.abs() + 1)
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(a * x, 0.5), obs=y)

    credo.fit(model, None, X, Y, steps=30, compile=False, progress=False)  # a warning would be an error
