"""The autoencoder: with a linear decoder and normal pixels it is probabilistic PCA, whose likelihood is known."""

import math
from functools import partial

import pandas as pd
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.distributions import MultivariateNormal
from torch.nn.functional import softplus

import credo
from credo.models.vae import held_out, ink
from tests.cases.by_hand import log_joint, log_normal
from tests.cases.gradients import assert_unbiased

PAIR = credo.load("vae")
ROWS, PIXELS, LATENTS = 6, 3, 2


def settings(**options):
    return [partial(program, **{"latents": LATENTS, **options}) for program in (PAIR.model, PAIR.guide)]


def linear(seed=1):
    """A decoder, an encoder and images of three real pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder, encoder = nn.Linear(LATENTS, PIXELS), nn.Linear(PIXELS, 2 * LATENTS)
        with torch.no_grad():
            decoder.weight *= 2
        return decoder, encoder, torch.randn(ROWS, PIXELS)


def marginal(decoder, sigma):
    """p(x) = N(b, W W' + sigma^2 I): z integrated out."""
    W, b = decoder.weight.detach().double(), decoder.bias.detach().double()
    return MultivariateNormal(b, W @ W.T + sigma.double() ** 2 * torch.eye(len(b)).double())


@pytest.mark.parametrize("pixels", ["normal", "bernoulli"])
def test_the_density_is_that_of_the_latents_and_the_pixels(pixels, double):
    decoder, encoder, x = (t.double() for t in linear())
    x = x if pixels == "normal" else (x > 0).double()
    z = torch.randn(ROWS, LATENTS)
    image = z @ decoder.weight.T + decoder.bias
    if pixels == "normal":
        fits = log_normal(x - image, 0.2)  # the sd before the first step
    else:
        p = 1 / (1 + (-image).exp())
        fits = torch.where(x == 1, p, 1 - p).log().sum()
    found = log_joint(settings(pixels=pixels)[0], {"z": z}, decoder, encoder, x)
    assert found == pytest.approx((log_normal(z, 1.0) + fits).item(), abs=1e-9)


def test_every_image_has_the_normal_its_encoder_gives_it(double):
    decoder, encoder, x = (t.double() for t in linear())
    trace = poutine.trace(settings(pixels="normal")[1]).get_trace(decoder, encoder, x)
    code = x @ encoder.weight.T + encoder.bias
    q = trace.nodes["z"]["fn"]
    torch.testing.assert_close(q.mean, code[:, :LATENTS])
    torch.testing.assert_close(q.variance.sqrt(), (1 + code[:, LATENTS:].exp()).log() + 1e-4)
    assert (q.batch_shape, q.event_shape) == ((ROWS,), (LATENTS,))


def exact_elbo(p, x):
    """E_q log p(x | z) - KL(q || N(0, I)), all in closed form for a linear decoder."""
    x = x.double()
    W, b, sigma = p["decoder$$$weight"], p["decoder$$$bias"], p["sigma"]
    code = x @ p["encoder$$$weight"].T + p["encoder$$$bias"]
    mean, sd = code[:, :LATENTS], softplus(code[:, LATENTS:]) + 1e-4
    squares = (x - mean @ W.T - b).square().sum() + (sd**2 @ W.T.square()).sum()
    fits = -0.5 * squares / sigma**2 - x.numel() * (sigma.log() + 0.5 * math.log(2 * math.pi))
    return fits - (0.5 * (mean**2 + sd**2 - 1) - sd.log()).sum()


@pytest.mark.parametrize("term", ["analytic KL", "log q", "sticking the landing"])
@pytest.mark.parametrize(("batch_size", "n"), [(None, 60), (2, 200)])
def test_the_mean_gradient_is_that_of_the_closed_form(term, batch_size, n):
    *nets, x = linear()
    elbo = partial(exact_elbo, x=x)
    assert_unbiased(*settings(pixels="normal"), (*nets, x), elbo, term=term, batch_size=batch_size, n=n)


@pytest.fixture(scope="module")
def fitted():
    """The linear pair after a few steps: a decoder and an encoder that are not each other's inverse."""
    decoder, encoder, x = linear()
    return credo.fit(*settings(pixels="normal"), decoder, encoder, x, steps=150), decoder, encoder


def test_the_networks_are_trained_and_the_callers_keep_their_weights(fitted):
    fit, decoder, encoder = fitted
    first = linear()
    for name, net, before in (("decoder", decoder, first[0]), ("encoder", encoder, first[1])):
        assert torch.equal(net.weight, before.weight) and torch.equal(net.bias, before.bias)
        trained = fit.trained(net)
        assert torch.equal(trained.weight, fit.params[f"{name}$$$weight"])
        assert not torch.equal(trained.weight, net.weight)
    assert fit.params["sigma"] != 0.2


def test_the_likelihood_is_the_exact_marginal_within_its_error():
    decoder, encoder, x = linear()
    W, sigma = decoder.weight.detach(), torch.tensor(0.2)  # the sd before the first step
    M = torch.linalg.inv(W.T @ W + sigma**2 * torch.eye(LATENTS))
    sd = 1.5 * sigma * torch.linalg.eigvalsh(M).max().sqrt()  # wider than the posterior: weights of finite variance
    with torch.no_grad():
        encoder.weight.copy_(torch.cat([M @ W.T, torch.zeros(LATENTS, PIXELS)]))
        encoder.bias.copy_(torch.cat([0.3 * sd - M @ W.T @ decoder.bias, sd.expm1().log().expand(LATENTS)]))
    fit = credo.fit(*settings(pixels="normal"), decoder, encoder, x, steps=0)
    new = 2 * torch.randn(40, PIXELS)
    for given, rows in (((), x), ((decoder, encoder, new), new)):
        found = credo.log_likelihood(fit, 20_000, *given)
        truth = marginal(decoder, sigma).log_prob(rows.double())
        assert found.values.shape == found.errors.shape == (len(rows),)
        assert found.errors.max() <= 0.05
        assert ((found.values - truth) / found.errors).abs().max() <= 4.5


def test_the_error_of_the_likelihood_is_honest(fitted):
    """Over many seeds: as wide as the spread, and as far from the truth as it says."""
    fit, decoder, _ = fitted
    x = fit.data[2]
    truth = marginal(fit.trained(decoder), fit.params["sigma"]).log_prob(x.double())
    runs = [credo.log_likelihood(fit, 2000, seed=seed) for seed in range(100)]
    values, errors = torch.stack([r.values for r in runs]), torch.stack([r.errors for r in runs])
    ratio = values.std(0) / errors.square().mean(0).sqrt()
    assert (ratio - 1).abs().max() <= 0.35, ratio
    z = (values - truth) / errors
    assert z.square().mean().sqrt().item() == pytest.approx(1, abs=0.2)
    assert torch.equal(runs[3].values, credo.log_likelihood(fit, 2000, seed=3).values)
    assert not torch.equal(runs[3].values, runs[4].values)


def test_where_the_guide_is_the_posterior_one_draw_tells_all(double):
    """p(x, z) / q(z | x) is p(x) for every z: W = (w, 0)' with pixels that are independent given z."""
    decoder, encoder, x = nn.Linear(1, 1).double(), nn.Linear(1, 2).double(), torch.randn(5, 1)
    w, b, sigma = 1.5, 0.3, 0.2
    sd = sigma / math.sqrt(w**2 + sigma**2)
    with torch.no_grad():
        decoder.weight.fill_(w)
        decoder.bias.fill_(b)
        encoder.weight.copy_(torch.tensor([[w / (w**2 + sigma**2)], [0.0]]))
        encoder.bias.copy_(torch.tensor([-b * w / (w**2 + sigma**2), math.log(math.expm1(sd - 1e-4))]))
    fit = credo.fit(*settings(pixels="normal", latents=1), decoder, encoder, x, steps=0)
    found = credo.log_likelihood(fit, 2)
    truth = -0.5 * (x[:, 0] - b) ** 2 / (w**2 + sigma**2) - 0.5 * math.log(2 * math.pi * (w**2 + sigma**2))
    torch.testing.assert_close(found.values, truth)
    torch.testing.assert_close(found.errors, torch.zeros(5))


def test_fewer_than_two_draws_are_refused(fitted):
    with pytest.raises(ValueError, match="n: got 1, wanted at least 2"):
        credo.log_likelihood(fitted[0], 1)


def test_draws_of_the_prior_are_images_of_the_decoder(fitted):
    fit, decoder, _ = fitted
    n = 4000
    found = fit.predict(n, prior=True)
    exact = marginal(fit.trained(decoder), fit.params["sigma"])
    assert set(found) == {"x", "z"}
    assert found["x"].shape == (n, ROWS, PIXELS) and found["z"].shape == (n, ROWS, LATENTS)
    for values, mean, cov in (
        (found["z"], torch.zeros(LATENTS), torch.eye(LATENTS)),
        (found["x"], exact.mean, exact.covariance_matrix),
    ):
        flat = values.double().flatten(0, 1) - mean  # (n ROWS, K): rows are independent
        z = flat.mean(0) / (cov.double().diagonal() / len(flat)).sqrt()
        assert z.abs().max() <= 4.5
        products = flat[:, :, None] * flat[:, None]
        z = (products.mean(0) - cov) / (products.std(0) / len(flat) ** 0.5)
        assert z.abs().max() <= 4.5
    # The latent that came along is the image's own, and no row shares it with another.
    away = found["x"] - fit.trained(decoder)(found["z"])
    assert away.std().item() == pytest.approx(fit.params["sigma"].item(), rel=0.02)
    across = (found["z"][:, :-1] * found["z"][:, 1:]).mean().item()
    assert abs(across) <= 4.5 / math.sqrt(n * (ROWS - 1) * LATENTS)
    # Reconstructions are drawn from the guide instead, and are nearer to the images.
    again = fit.predict(200)["x"]
    assert (again - fit.data[2]).square().mean() < (found["x"][:200] - fit.data[2]).square().mean()


def test_images_keep_their_shape():
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)), nn.ConvTranspose2d(1, 1, 5))
    encoder = nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(32, 4))
    x = (torch.rand(5, 1, 8, 8) > 0.5).float()
    fit = credo.fit(*settings(), decoder, encoder, x, steps=5, batch_size=3)
    assert fit.predict(3, decoder, encoder, x[:2])["x"].shape == (3, 2, 1, 8, 8)
    assert set(fit.predict(3, prior=True)["x"].unique().tolist()) == {0.0, 1.0}
    assert credo.log_likelihood(fit, 10, decoder, encoder, x[:2]).values.shape == (2,)


@pytest.mark.parametrize("pixels", ["gaussian", "", None])
def test_other_kinds_of_pixels_are_refused(pixels):
    decoder, encoder, x = linear()
    with pytest.raises(ValueError, match=r"pixels: got .*wanted 'bernoulli', 'normal' or 'diagonal'"):
        credo.fit(*settings(pixels=pixels), decoder, encoder, x, steps=1)


def test_pixels_between_0_and_1_are_no_bernoulli_pixels():
    decoder, encoder, x = linear()
    grey = (x > 0).float()
    grey[2, 1] = 0.25
    message = r"site 'x': 1 of 18 .*Bernoulli.*the first is 0\.25 at index \(2, 1\); wanted 0 or 1"
    with pytest.raises(ValueError, match=message):
        credo.fit(*settings(), decoder, encoder, grey, steps=1)


@pytest.mark.parametrize(
    ("decoder", "encoder", "message"),
    [
        (nn.Linear(2, 4), nn.Linear(3, 4), r"decoder: gives shape \(6, 4\) for 6 rows, but x has \(6, 3\)"),
        (nn.Linear(5, 3), nn.Linear(3, 4), r"z: got .*shape \(6, 2\), which the decoder does not take"),
        (nn.Linear(2, 3), nn.Linear(3, 5), r"encoder: gives shape \(6, 5\) for 6 rows, wanted \(6, 4\)"),
        (nn.Linear(2, 3), nn.Linear(4, 4), r"x: got .*shape \(6, 3\), which the encoder does not take"),
    ],
)
def test_networks_that_do_not_fit_are_refused(decoder, encoder, message):
    with pytest.raises(ValueError, match=message):
        credo.fit(*settings(), decoder, encoder, (linear()[2] > 0).float(), steps=1)


def test_the_built_in_digits_and_a_table():
    decoder, encoder, x = PAIR.data()
    assert x.shape == (1437, 64)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert decoder(torch.zeros(2, 8)).shape == (2, 64)
    assert encoder(x[:2]).shape == (2, 16)
    *same, new = held_out(decoder, encoder, x)
    assert same == [decoder, encoder] and new.shape == (360, 64)
    assert ink(torch.tensor([0.0, 0.49, 0.5, 1.0])).tolist() == [0, 0, 1, 1]
    decoder, encoder, x = PAIR.data(pd.DataFrame({"b": [1, 0, 1], "a": [0, 0, 1]}))
    assert x.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert decoder(torch.zeros(2, 8)).shape == (2, 2)
    assert encoder(x).shape == (3, 16)


def test_there_is_no_code_without_rows():
    decoder, encoder, x = PAIR.data()
    fit = credo.fit(PAIR.model, PAIR.guide, decoder, encoder, x[:20], steps=1, progress=False)
    with pytest.raises(ValueError, match="x: left out of the prediction"):
        fit.predict(2, decoder, encoder)


def test_each_pixel_has_an_sd_of_its_own_bounded_below():
    """The density is that of the normals, and a pixel that never changes does not drive its sd to zero."""
    decoder, encoder = nn.Linear(2, 3), nn.Linear(3, 4)
    x = torch.randn(40, 3) * torch.tensor([1.0, 0.3, 0.0])
    programs = [partial(program, latents=2, pixels="diagonal") for program in (PAIR.model, PAIR.guide)]
    fit = credo.fit(*programs, decoder, encoder, x, steps=400, lr=0.1, progress=False)
    sigma = fit.params["sigma"]
    assert sigma.shape == (3,) and sigma.min() >= 0.01 and sigma[0] > sigma[2]
    W, b = (t.detach().double() for t in (fit.trained(decoder).weight, fit.trained(decoder).bias))
    exact = MultivariateNormal(b, W @ W.T + sigma.double().square().diag()).log_prob(x.double())
    found = credo.log_likelihood(fit, 4000)
    assert ((found.values - exact).abs() <= 5 * found.errors + 1e-3).all()
