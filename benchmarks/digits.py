"""Held-out accuracy and likelihood of the default fits on scikit-learn's digits: 1,437 training rows, 360 held out.

Each network pair is fitted with all defaults, seeds 0 to 2, and measured on the held-out rows; the plain network has
the same layers and the same Adam, and takes as many full-batch steps as the pair took.
"""

import functools
import time

import torch
from sklearn.decomposition import PCA
from torch import nn

import credo
from credo.guides import bnn_sparse as sparse
from credo.models import stochastic_depth_resnet as depth
from credo.models import vae

SEEDS = range(3)


def plain(net: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, seed: int) -> nn.Module:
    """The network trained by cross-entropy alone."""
    torch.manual_seed(seed)
    net = type(net)(*[type(m)(m.in_features, m.out_features) if isinstance(m, nn.Linear) else m for m in net])
    adam = torch.optim.Adam(net.parameters(), lr=0.02, betas=(0.9, 0.99))
    for _ in range(steps):
        adam.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        adam.step()
    return net


def classifiers() -> None:
    print(
        "pair                     seed   steps  seconds   accuracy     nll     ece    plain: accuracy     nll     ece"
    )
    # The prior sd of each weight chosen by the ELBO: a model of its own beside the default, chosen by no held-out row.
    learnt = {"prior_sd": "ard"}
    rows = (("bnn_classifier", {}), ("bnn_classifier", learnt), ("bnn_dropout", {}), ("bnn_sparse", {}))
    for name, named in rows:
        pair = credo.load(name)
        label = f"{name}, ard" if named else name
        for seed in SEEDS:
            net, x, y = pair.data()
            start = time.perf_counter()
            fit = credo.fit(functools.partial(pair.model, **named), pair.guide, net, x, y, seed=seed, progress=False)
            seconds = time.perf_counter() - start
            test = credo.data.digits()
            ours = credo.metrics.classification(fit.predict(200, net, test.x_test)["probs"], test.y_test)
            trained = plain(net, x, y, len(fit.losses), seed)
            probs = trained(test.x_test).softmax(-1).detach()
            other = credo.metrics.classification(probs, test.y_test)
            print(
                f"{label:<24} {seed:4} {len(fit.losses):7,} {seconds:8.1f} {ours.accuracy:10.4f} {ours.nll:7.3f} "
                f"{ours.ece:7.3f} {other.accuracy:18.4f} {other.nll:7.3f} {other.ece:7.3f}"
            )
            if name == "bnn_sparse":
                with torch.no_grad():
                    thin = sparse.pruned(net, fit.params)(test.x_test).softmax(-1)
                kept = sparse.report(fit.params)
                score = credo.metrics.classification(thin, test.y_test)
                shares = ", ".join(f"{share:.1%}" for share in kept["pruned"])
                print(f"{'':24}      pruned by layer and in all: {shares}; pruned network {score.accuracy:.4f}")


def autoencoder() -> None:
    print("\nvae          seed   steps  seconds   nats per held-out image   error    baselines")
    digits = credo.data.digits()
    for pixels in ("bernoulli", "normal", "diagonal"):
        model, guide = (functools.partial(f, pixels=pixels) for f in (credo.load("vae").model, credo.load("vae").guide))
        for seed in SEEDS:
            decoder, encoder, x, x_test = *vae.data()[:2], vae.ink(digits.x), vae.ink(digits.x_test)
            if pixels != "bernoulli":
                x, x_test = dequantised(digits.x, 0), dequantised(digits.x_test, 1)
            start = time.perf_counter()
            fit = credo.fit(model, guide, decoder, encoder, x, seed=seed, progress=False)
            seconds = time.perf_counter() - start
            found = credo.log_likelihood(fit, 1000, decoder, encoder, x_test)
            error = (found.errors**2).sum().sqrt().item() / len(x_test)
            if pixels == "bernoulli":
                p = (x.sum(0) + 0.5) / (len(x) + 1)
                factorised = torch.distributions.Bernoulli(p).log_prob(x_test).sum(1).mean().item()
                others = f"factorised {factorised:.2f}"
            else:
                factorised = torch.distributions.Normal(x.mean(0), x.std(0)).log_prob(x_test).sum(1).mean().item()
                linear = PCA(vae.LATENTS).fit(x.numpy()).score(x_test.numpy())
                others = f"factorised {factorised:.2f}, probabilistic PCA {linear:.2f}"
            print(
                f"{pixels:<12} {seed:4} {len(fit.losses):7,} {seconds:8.1f} {found.values.mean():25.2f} {error:7.3f}"
                f"    {others}"
            )


def depths() -> None:
    print(
        "\ndepth        seed   steps  seconds   mode of q   of blocks   accuracy there   at full depth   tot. variation"
    )
    pair, test = credo.load("stochastic_depth_resnet"), credo.data.digits()
    for seed in SEEDS:
        net, x, y = pair.data()
        start = time.perf_counter()
        fit = credo.fit(pair.model, pair.guide, net, x, y, seed=seed, progress=False)
        seconds = time.perf_counter() - start
        mode = int(fit.params["logits"].argmax())
        with torch.no_grad():
            right = [
                (p.argmax(-1) == test.y_test).double().mean() for p in depth.every_depth(fit.trained(net), test.x_test)
            ]
        variation = credo.compare(fit)["total variation"].iloc[0]
        print(
            f"{'':12} {seed:4} {len(fit.losses):7,} {seconds:8.1f} {mode:11} {mode / depth.BLOCKS:11.0%} "
            f"{right[mode]:16.4f} {right[-1]:15.4f} {variation:17.5f}"
        )


def minibatches() -> None:
    print("\nlinear_regression, batches of 50   seed   steps   mean error (sds)   sd error (%)")
    pair = credo.load("linear_regression")
    for seed in SEEDS:
        fit = credo.fit(pair.model, pair.guide, *pair.data(), batch_size=50, seed=seed, progress=False)
        table = credo.compare(fit)
        mean, sd = table["error in sds"].abs().max(), (table["sd ratio"] - 1).abs().max()
        print(f"{'':34} {seed:4} {len(fit.losses):7,} {mean:18.4f} {100 * sd:14.2f}")


def dequantised(x: torch.Tensor, seed: int) -> torch.Tensor:
    """Pixels of 17 levels made continuous on (0, 1), so that their density is bounded and comparable between models."""
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))
    return (16 * x + noise) / 17


if __name__ == "__main__":
    torch.set_num_threads(1)
    classifiers()
    autoencoder()
    depths()
    minibatches()
