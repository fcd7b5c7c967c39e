"""The five pairs with networks, as they come, on digits they have not seen; held against plain baselines."""

import copy
import sys
from functools import partial
from typing import Any

import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

import credo
from credo.guides.bnn_sparse import pruned, report
from credo.models._digits import digits
from credo.models.stochastic_depth_resnet import every_depth

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("seed", range(3)),
    pytest.mark.filterwarnings("ignore:not converged"),  # their stages are cut while they gain, and credo says so
]
DRAWS = 200


def fitted(name: str, seed: int) -> tuple[credo.Fit, tuple[Any, ...], tuple[Any, ...]]:
    """(the fit with nothing set but the seed, its data, the rows held out)."""
    pair = credo.load(name)
    data = pair.data()
    fit = credo.fit(pair.model, pair.guide, *data, seed=seed, progress=False)
    new = sys.modules[pair.model.__module__].held_out(*data)
    print(f"{name}, seed {seed}: {fit!r}")
    return fit, data, new


def shown(name: str, **numbers: float) -> None:
    """Figures for whoever runs this with -s."""
    print("   ", name, ", ".join(f"{k} {v:.4f}" for k, v in numbers.items()))


def scores(fit: credo.Fit, new: tuple[Any, ...]) -> dict[str, float]:
    """Accuracy, NLL and so on of the average over draws of the latents."""
    net, x, y = new
    found = credo.metrics.classification(fit.predict(DRAWS, net, x)["probs"], y).to_dict()
    shown("predictive", **found)
    return found


def trained_alike(net: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> nn.Module:
    """The same network with points for weights: Adam as the fit has it, as many full batches, cross-entropy."""
    net = copy.deepcopy(net)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02, betas=(0.9, 0.99))
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net


def test_the_bayesian_network_is_right_and_knows_when_it_is_not(seed):
    fit, (net, x, y), new = fitted("bnn_classifier", seed)
    found = scores(fit, new)
    plain = trained_alike(net, x, y, len(fit.losses))
    with torch.no_grad():
        alone = credo.metrics.classification(plain(new[1]).softmax(-1), new[2]).to_dict()
    shown("plain network", **alone)
    assert found["accuracy"] >= 0.97
    assert found["nll"] <= alone["nll"]


def test_dropout_is_right(seed):
    fit, _, new = fitted("bnn_dropout", seed)
    assert scores(fit, new)["accuracy"] >= 0.97


def test_the_sparse_network_is_right_with_a_twentieth_of_its_weights(seed):
    fit, (net, _, _), new = fitted("bnn_sparse", seed)
    found = scores(fit, new)
    thin = pruned(net, fit.params)
    with torch.no_grad():
        alone = credo.metrics.classification(thin(new[1]).softmax(-1), new[2]).to_dict()
    share = report(fit.params).loc["total", "pruned"]
    shown("pruned network", **alone, pruned=share)
    assert share >= 0.95
    zeros = sum(int((w == 0).sum()) for w in thin.parameters() if w.dim() > 1)
    assert zeros / sum(w.numel() for w in thin.parameters() if w.dim() > 1) == pytest.approx(share)
    assert found["accuracy"] >= 0.94  # the log-uniform prior costs accuracy: its start is chosen by the ELBO
    assert alone["accuracy"] >= 0.94


def test_the_autoencoder_finds_new_images_more_probable_than_independent_pixels_do(seed):
    fit, (_, _, x), new = fitted("vae", seed)
    found = credo.log_likelihood(fit, 1000, *new)
    p = ((x.sum(0) + 1) / (len(x) + 2)).double()  # the rule of succession: no pixel is impossible
    ink = new[2].double()
    independent = (ink * p.log() + (1 - ink) * (1 - p).log()).sum(1)
    gain = (found.values - independent).mean().item()
    shown("nats per image", vae=found.values.mean().item(), independent=independent.mean().item(), gain=gain)
    shown("nats, standard error of one image", largest=found.errors.max().item(), mean=found.errors.mean().item())
    assert gain >= 5


@pytest.mark.parametrize("pixels", ["normal", "diagonal"])
def test_the_autoencoder_finds_new_grey_images_more_probable_than_linear_models_do(seed, pixels):
    """Grey levels are spread evenly over the width of one, so that they have a density.

    One sd for all pixels against probabilistic PCA, which has one too; one for each also against independent normals.
    """
    pair = credo.load("vae")
    decoder, encoder, _ = pair.data()
    generator = torch.Generator().manual_seed(seed)
    x, new = ((t * 16 + torch.rand(t.shape, generator=generator)) / 17 for t in (digits().x, digits().x_test))
    programs = [partial(program, pixels=pixels) for program in (pair.model, pair.guide)]
    fit = credo.fit(*programs, decoder, encoder, x, seed=seed, progress=False)
    print(f"vae, {pixels} pixels, seed {seed}: {fit!r}")
    found = credo.log_likelihood(fit, 1000, decoder, encoder, new)
    components = PCA(n_components=8).fit(x.double().numpy()).score_samples(new.double().numpy())
    best = components.mean()
    if pixels == "diagonal":
        best = max(best, torch.distributions.Normal(x.mean(0), x.std(0)).log_prob(new).sum(1).mean().item())
    gain = found.values.mean().item() - best
    shown("nats per image", vae=found.values.mean().item(), baseline=best, gain=gain)
    shown("nats, standard error of one image", largest=found.errors.max().item(), mean=found.errors.mean().item())
    assert gain >= 5


def test_the_shallow_network_is_as_right_as_the_deep_one(seed):
    fit, (net, _, _), (_, x, y) = fitted("stochastic_depth_resnet", seed)
    blocks = len(net["blocks"])
    q = fit.params["logits"].softmax(0)
    mode = int(q.argmax())
    with torch.no_grad():
        right = (every_depth(fit.trained(net), x).argmax(-1) == y).double().mean(1)
    variation = credo.compare(fit).loc["z", "total variation"]
    shown("accuracy by depth", **{str(i): p.item() for i, p in enumerate(right)})
    shown("depth", mode=mode, of=blocks, probability=q[mode].item(), variation=variation)
    assert right[mode] >= right[blocks] - 0.005
    assert mode <= 0.6 * blocks
    assert variation <= 0.02
