"""Fingerprints of the losses of every pair for one seed: two trees with the same behaviour print the same lines.

python benchmarks/seeds.py [steps]        then `diff` the output of two trees; steps run eagerly (compile=False)
"""

import hashlib
import sys
import warnings

import torch

import credo

SEED = 3
GUIDES = {"its own guide": {}, "no guide": {"guide": None}, "plan fast": {"plan": "fast"}}


def fingerprint(numbers: list[float]) -> str:
    """Sixteen hexadecimal digits that change with any bit of any number."""
    return hashlib.sha256("".join(float(x).hex() for x in numbers).encode()).hexdigest()[:16]


def line(name: str, label: str, steps: int) -> str:
    """First and last loss in nats, then a fingerprint of all losses and of all parameters; or the error."""
    pair, settings = credo.load(name), dict(GUIDES[label])
    guide = settings.pop("guide", pair.guide)
    assert pair.data is not None
    try:
        fit = credo.fit(
            pair.model, guide, *pair.data(), steps=steps, compile=False, progress=False, seed=SEED, **settings
        )
    except (ValueError, NotImplementedError) as error:
        return f"{name}, {label}: {type(error).__name__}"
    params = [x for _, v in sorted(fit.params.items()) for x in v.flatten().tolist()]
    return (
        f"{name}, {label}: {fit.losses[0]!r} {fit.losses[-1]!r} {fingerprint(list(fit.losses))} {fingerprint(params)}"
    )


def main(steps: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in credo.names():
        for label in GUIDES:
            print(line(name, label, steps), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
