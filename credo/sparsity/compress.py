"""The network of a fit, compressed: what pruning has made idle is cut out.

fit = credo.fit(pair.model, pair.guide, net, x, y)      # of the pair bnn_sparse
small = credo.compress(fit, net)
small.network(x_new), small.table
"""

import math
import time
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from credo.guides.bnn_sparse import THRESHOLD, log_alpha, pruned

from .cut import Cut, Layer, cut
from .native import native
from .pack import pack
from .thresholds import thresholds

CALLS = 200  # of a network, to time it
ROWS = 16  # of the data of the fit, on which both networks are compared


class Compressed(NamedTuple):
    """What `credo.compress` returns.

    network: the smaller network, in evaluation mode; its weights do not train.
    table: a row for each weight and a total: weights and kept, the numbers before and after pruning; before and after,
        the shapes; layout, "dense", "sparse" or "packed"; bytes before and bytes after, with biases and the numbers of
        the inputs that are read; ratio, weights / kept.
    threshold: the log alpha at which weights were pruned. why: what stays whole, and why; empty if nothing does.
    seconds: of one call with one row, the median of many: {"pruned", "compressed"}; empty if not asked for.

    >>> credo.Compressed._fields
    ('network', 'table', 'threshold', 'why', 'seconds')
    """

    network: nn.Module
    table: pd.DataFrame
    threshold: float
    why: str
    seconds: dict[str, float]


def compress(
    fit: Any, net: nn.Module, *, threshold: float | None = THRESHOLD, packed: bool = False, timed: bool = False
) -> Compressed:
    """A smaller network whose outputs are those of the pruned one, net(x; theta_i [log alpha_i < threshold]).

    Units whose weights, in or out, are all zero are cut out: inputs of the first layer (the network goes on to take
    whole rows, and picks those that it reads), hidden units, channels of convolutions. A unit that reads nothing is a
    constant: the bias of the next layer takes it over. What is left of a linear layer is kept dense, or as a sparse
    matrix where it is so large and so thin that this is faster.

    fit: of the guide of `bnn_sparse`. net: the network that was fitted. Units are cut where an nn.Sequential says what
        reads what: Linear, Conv2d without groups, activations, pooling and Flatten. Before and after other layers they
        stay, and other networks stay whole, with zeros; `why` says so.
    threshold: the log alpha from which weights are zero; None: where the ELBO on the data of the fit is largest, by
        `credo.sparsity.thresholds`. packed: whether the network is one call of machine code for a CPU, its weights
        with columns of 16 bits, instead of a call for each layer; it goes through torch where there is no C++ compiler,
        and on a GPU. `why` says why it cannot be packed: `credo.sparsity.pack.pack` knows which layers can. timed:
        whether both networks are timed at one row, in this process as it is.
    Returns a `Compressed`. Its outputs are those of the pruned network but for rounding, which is checked on rows of
    the fit. Raises ValueError for a fit without log alpha, a threshold that is no number, and a network with other
    weights than the fit; RuntimeError if the outputs differ.
    Source: Molchanov, Ashukha and Vetrov 2017, section 5.1, for the threshold 3.

    >>> import credo
    >>> pair = credo.load("bnn_sparse")
    >>> net, x, y = pair.data()
    >>> fit = credo.fit(pair.model, pair.guide, net, x, y, steps=20, compile=False, progress=False)
    >>> small = credo.compress(fit, net)
    >>> small.network(x).shape, list(small.table.index)
    (torch.Size([1437, 10]), ['0.weight', '2.weight', 'total'])
    """
    if threshold is not None and (
        isinstance(threshold, bool) or not isinstance(threshold, int | float) or math.isnan(threshold)
    ):
        raise ValueError(f"threshold: got {threshold!r}, wanted a number, a log alpha, or None: chosen by the ELBO")
    noise = log_alpha(fit.params)
    if not noise:
        raise ValueError(
            f"fit: its parameters are {sorted(fit.params)[:4]}, wanted NAME.theta and NAME.log_sigma2 for each weight, "
            f"as the guide of credo.load('bnn_sparse') has them"
        )
    shapes = {name: tuple(w.shape) for name, w in net.named_parameters()} if isinstance(net, nn.Module) else {}
    for name, a in noise.items():
        if shapes.get(name) != tuple(a.shape):
            raise ValueError(
                f"net: it has {name} of shape {shapes.get(name)}, and the fit of shape {tuple(a.shape)}; pass the "
                f"network that was fitted"
            )
    where = float(thresholds(fit).attrs["best"]) if threshold is None else float(threshold)
    thin = pruned(net, fit.params, where)
    done = cut(thin)
    done = _packed(done) if packed else done
    rows = [v[:ROWS] for v in fit.data if isinstance(v, torch.Tensor) and v.dim() > 1][:1]
    for x in rows:
        _compare(thin, done.network, x.to(next(thin.parameters()).device))
    times = {"pruned": seconds(thin, rows[0][:1]), "compressed": seconds(done.network, rows[0][:1])} if timed else {}
    return Compressed(done.network, _table(done.layers), where, done.why, times)


def _packed(done: Cut) -> Cut:
    """The same with its network as one function, where that can be."""
    found = pack(done.network)
    if isinstance(found, str):
        return done._replace(why="; ".join(filter(None, (done.why, f"the network is not packed: {found}"))))
    stored = zip(done.layers.items(), found.stored(), strict=True)
    layers = {name: layer._replace(bytes_after=size, layout="packed") for (name, layer), size in stored}
    slow = "" if native() else "no C++ compiler builds the packed network here: it goes through torch, slower; set CXX"
    return Cut(found.eval(), layers, "; ".join(filter(None, (done.why, slow))))


@torch.inference_mode()
def seconds(network: nn.Module, x: torch.Tensor) -> float:
    """Seconds of network(x), the median of CALLS calls, in this process as it is. x: on the network's device."""
    x = x.to(next((t.device for t in (*network.parameters(), *network.buffers())), x.device))
    times = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        network(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        times.append(time.perf_counter() - begun)
    return sorted(times)[CALLS // 2]


@torch.inference_mode()
def _compare(thin: nn.Module, small: nn.Module, x: torch.Tensor) -> None:
    """Raises RuntimeError if the two networks differ on these rows beyond rounding."""
    wanted, found = thin(x), small(x)
    size = max(1.0, wanted.abs().max().item())
    rounding = 1e4 * torch.finfo(wanted.dtype).eps * size
    if found.shape != wanted.shape or not (found - wanted).abs().max().item() <= rounding:
        raise RuntimeError(
            f"net: its compressed form differs from the pruned network by {(found - wanted).abs().max().item():.2g} on "
            f"rows of the data; the pruned network is credo.guides.bnn_sparse.pruned(net, fit.params)"
        )


def _table(layers: dict[str, Layer]) -> pd.DataFrame:
    rows = {
        name: {
            **{"weights": _product(layer.before), "kept": layer.kept},
            **{"before": _words(layer.before), "after": _words(layer.after), "layout": layer.layout},
            **{"bytes before": layer.bytes_before, "bytes after": layer.bytes_after},
        }
        for name, layer in layers.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    counts = ["weights", "kept", "bytes before", "bytes after"]
    table.loc["total"] = {name: table[name].sum() if name in counts else "" for name in table.columns}
    table[counts] = table[counts].astype(int)
    table["ratio"] = table["weights"] / table["kept"]
    table.index.name = "layer"
    return table


def _product(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
