"""Part `sparse` of papers.py: sparse variational dropout beside Molchanov, Ashukha and Vetrov 2017, table 1.

    sparse/lenet300/published    LeNet-300-100 by the paper's recipe, 200 epochs
    sparse/lenet300/quarter      the same in 50 epochs
    sparse/lenet300/better       200 epochs at another rate (see `BETTER`)
    sparse/lenet300/brief        50 epochs at that rate
    sparse/lenet5/published      LeNet-5-Caffe by the recipe, 200 epochs

On a GPU: all 60,000 images. On a CPU: 6,000 of them and a tenth of the epochs, for a look at whether everything runs.
Every result has the network of the last iterate, as in the paper, and of the average of the last quarter of iterates,
as `credo.fit` returns; both pruned at log alpha = 3, and the second where the ELBO of the training rows says.
"""

import functools
import time
from collections.abc import Mapping
from typing import Any

import torch
from _papers_task import Task, lenet5
from torch import nn

import credo
from credo.guides.bnn_sparse import pruned, recipe, report, small_start
from credo.sparsity.compress import compress, seconds
from credo.sparsity.thresholds import thresholds

PUBLISHED = {  # error in %, weights / non-zero weights
    "lenet300": {"original": (1.64, 1), "pruning (Han)": (1.59, 12), "DNS": (1.99, 56), "SWS": (1.94, 23)}
    | {"sparse VD": (1.92, 68)},
    "lenet5": {"original": (0.80, 1), "pruning (Han)": (0.77, 12), "DNS": (0.91, 111), "SWS": (0.97, 200)}
    | {"sparse VD": (0.75, 280)},
}
# Three times the published rate: a guess, tuned on nothing. 120,000 steps have room for more noise before it falls.
BETTER: dict[str, Any] = {"lr": 3e-3}
CPU_ROWS, CPU_SHARE = 6_000, 0.1


def lenet300() -> nn.Module:
    """266,200 weights."""
    return nn.Sequential(
        *(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


NETS = {"lenet300": (lenet300, "flat", 0.5), "lenet5": (lenet5, "image", 0.0)}  # net, shape of a row, `flat`


def tasks() -> list[Task]:
    return [
        Task("sparse/lenet300/published", run, ("lenet300", 200)),
        Task("sparse/lenet300/quarter", run, ("lenet300", 50)),
        Task("sparse/lenet300/better", run, ("lenet300", 200, BETTER)),
        Task("sparse/lenet300/brief", run, ("lenet300", 50, BETTER)),
        Task("sparse/lenet5/published", run, ("lenet5", 200)),
    ]


def run(which: str, epochs: float, changes: Mapping[str, Any] | None = None, rows: int | None = None) -> dict[str, Any]:
    """One network: errors on the test rows, sparsities, ratios, seconds. rows: how many images; None: all on a GPU."""
    make, shape, flat = NETS[which]
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    if not on_gpu:
        rows, epochs = rows or CPU_ROWS, epochs * CPU_SHARE
    x, y, x_test, y_test = images(shape, rows, device)
    net = small_start(make())
    pair, settings = credo.load("bnn_sparse"), recipe(len(x), epochs, flat=flat, **(changes or {}))
    last: dict[str, torch.Tensor] = {}
    began = time.perf_counter()
    fit, how = fitted(pair, net, x, y, settings, last)
    took = time.perf_counter() - began
    result: dict[str, Any] = {
        **{"rows": len(x), "epochs": epochs, "steps": settings["steps"], "seconds of training": round(took, 1)},
        **{"estimator": how, "compiled": str(fit.plan.compiled), "-ELBO": mean_of(fit.losses[-1000:])},
        **{"weights": int(report(fit.params).loc["total", "weights"])},
    }
    result |= of_parameters("last", net, last, 3.0, x_test, y_test)
    result |= of_parameters("average", net, fit.params, 3.0, x_test, y_test)
    table = thresholds(fit)
    best = table.attrs["best"]
    result |= {"threshold by ELBO": best, "nats lost at 3": float(table.loc[3.0, "below"])}
    result |= of_parameters("by ELBO", net, fit.params, best, x_test, y_test)
    return result | of_compressed(net, fit, x_test)


def images(shape: str, rows: int | None, device: torch.device) -> tuple[torch.Tensor, ...]:
    """MNIST as in the paper: pixels of 0 to 255 divided by 256, less the mean image of the training rows."""
    x, y, x_test, y_test = credo.data.mnist(shape)
    mean = x.mean(0)
    x, x_test = ((part - mean) * (255 / 256) for part in (x, x_test))
    return tuple(part.to(device) for part in (x[:rows], y[:rows], x_test, y_test))


def fitted(
    pair: Any, net: nn.Module, x: torch.Tensor, y: torch.Tensor, settings: dict[str, Any], last: dict[str, Any]
) -> tuple[Any, str]:
    """(the fit, its estimators in words). Convolutions with noise for each place, as published, where that is had."""

    def keep(svi: Any, step: int, loss: float) -> None:
        last.update({name: value.clone() for name, value in svi.params.items()})

    guide = functools.partial(pair.guide, start=-10.0)
    call = functools.partial(credo.fit, pair.model, guide, net, x, y, progress=False, device=x.device, **settings)
    call = functools.partial(call, callback=keep, callback_every=settings["steps"])
    if any(isinstance(layer, nn.Conv2d) for layer in net.modules()):
        local = {name: "local" for name, w in net.named_parameters() if w.dim() > 1}
        try:
            plan = credo.plan(pair.model, guide, net, x[:200], y[:200], plan=local, force=True)
            return call(plan=plan, force=True), "local, for each place of a convolution, as published"
        except ValueError as error:
            print(f"local noise for convolutions was refused, flipout instead: {error}", flush=True)
    fit = call(plan="fast")
    return fit, ", ".join(sorted({f"{row.estimator}" for row in fit.plan.frame.itertuples() if "weight" in str(row)}))


def of_parameters(
    word: str, net: nn.Module, params: Mapping[str, torch.Tensor], threshold: float, x: torch.Tensor, y: torch.Tensor
) -> dict[str, Any]:
    """The pruned network with these parameters: error in %, sparsity of each layer in %, ratios."""
    table = report(params, threshold)
    total = table.loc["total"]
    thin = pruned(net, params, threshold).to(x.device)
    with torch.no_grad():
        wrong = sum(int((thin(a).argmax(-1) != b).sum()) for a, b in zip(x.split(5000), y.split(5000), strict=True))
    # float32 values with column numbers of 16 bits and a 32-bit pointer for each row, against dense float32.
    rows = sum(w.shape[0] + 1 for n, w in net.named_parameters() if n in table.index)
    stored = 6 * int(total["kept"]) + 4 * rows
    return {
        f"{word}: error %": round(100 * wrong / len(y), 2),
        f"{word}: kept": int(total["kept"]),
        f"{word}: sparsity by layer %": "-".join(f"{100 * share:.1f}" for share in table["pruned"][:-1]),
        f"{word}: ratio": round(float(total["weights"] / max(1, total["kept"])), 1),
        f"{word}: ratio with storage": round(float(4 * total["weights"] / stored), 1),
    }


def of_compressed(net: nn.Module, fit: Any, x: torch.Tensor) -> dict[str, Any]:
    """What `credo.compress` leaves of the average, and how long it takes at one row on one core."""
    small = compress(fit, net)
    networks = {"dense": net, "compressed": small.network}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = {name: seconds(network.cpu().eval(), x[:1].cpu()) for name, network in networks.items()}
    torch.set_num_threads(threads)
    return {
        "compressed: shapes": ", ".join(small.table["after"][:-1]),
        "compressed: bytes": int(small.table.loc["total", "bytes after"]),
        "compressed: bytes before": int(small.table.loc["total", "bytes before"]),
        **{f"{name}: us a row": round(1e6 * value, 1) for name, value in times.items()},
    }


def mean_of(losses: Any) -> float:
    return float(sum(losses) / len(losses))


def tables(found: Mapping[str, dict[str, Any]]) -> None:
    for which, published in PUBLISHED.items():
        print(f"\n{which}: error in %, weights / non-zero weights (Molchanov, Ashukha and Vetrov 2017, table 1)")
        for name, (error, ratio) in published.items():
            print(f"  {name:<34}{error:8.2f}{ratio:9.0f}")
        for name, result in found.items():
            if f"/{which}/" not in name:
                continue
            print(f"  ours, {name}: {result['rows']:,} rows, {result['epochs']:g} epochs, {result['steps']:,} steps,")
            print(
                f"    {result['seconds of training']:,.0f} s, {result['estimator']}; -ELBO {result['-ELBO']:,.0f} nats"
            )
            for word in ("last", "average", "by ELBO"):
                at = result["threshold by ELBO"] if word == "by ELBO" else 3
                shares, stored = result[f"{word}: sparsity by layer %"], result[f"{word}: ratio with storage"]
                print(
                    f"    {f'{word}, log alpha < {at:g}':<32}{result[f'{word}: error %']:8.2f}"
                    f"{result[f'{word}: ratio']:9.1f}   {shares} %; with storage {stored:.1f}"
                )
            print(
                f"    compressed to {result['compressed: shapes']}, {result['compressed: bytes before']:,} to "
                f"{result['compressed: bytes']:,} bytes; one row on one core {result['dense: us a row']:.0f} us dense, "
                f"{result['compressed: us a row']:.0f} us compressed"
            )
