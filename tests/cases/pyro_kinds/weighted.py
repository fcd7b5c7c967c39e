"""Terms that are weighted: masks, scales, factors, and sites in the terms of a mean-field ELBO."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.distributions.transforms import AffineTransform
from pyro.infer.reparam import LocScaleReparam

from tests.cases.pyro_kinds.exhaustive import Case
from tests.cases.pyro_kinds.plates import Y3, p_of, see


def normal_guide():
    pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.3)), 0.6))


def trained_guide():
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.3)), scale))


def masked_data(mask):
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with poutine.mask(mask=mask):
            see(x)

    return model


def masked_rows():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", 3), poutine.mask(mask=torch.tensor([True, False, True])):
        see(x, Y3)


def scaled_data(scale):
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with poutine.scale(scale=scale):
            see(x)

    return model


def scaled_rows():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", 3), poutine.scale(scale=torch.tensor([0.1, 0.9, 2.0])):
        see(x, Y3)


def annealed():
    with poutine.scale(scale=0.3):
        x = pyro.sample("x", dist.Bernoulli(0.5))
    see(x)


def annealed_guide():
    with poutine.scale(scale=0.3):
        pyro.sample("x", dist.Bernoulli(p_of()))


def scaled_coins():
    with pyro.plate("rows", 3), poutine.scale(scale=torch.tensor([0.5, 1.0, 2.0])):
        see(pyro.sample("x", dist.Bernoulli(0.5)), Y3)


def scaled_coins_guide():
    with pyro.plate("rows", 3), poutine.scale(scale=torch.tensor([0.5, 1.0, 2.0])):
        pyro.sample("x", dist.Bernoulli(p_of()))


def masked_coins():
    with pyro.plate("rows", 3), poutine.mask(mask=torch.tensor([True, False, True])):
        see(pyro.sample("x", dist.Bernoulli(0.5)), Y3)


def masked_coins_guide():
    with pyro.plate("rows", 3), poutine.mask(mask=torch.tensor([True, False, True])):
        pyro.sample("x", dist.Bernoulli(p_of()))


def factor():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.factor("y", -((x - 0.5) ** 2))


def factor_of_coin():
    x = pyro.sample("x", dist.Bernoulli(0.5))
    pyro.factor("y", torch.where(x > 0.5, torch.tensor(-0.2), torch.tensor(-1.4)))


def coin_guide():
    pyro.sample("x", dist.Bernoulli(p_of()))


def factor_of_rows():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", 3):
        pyro.factor("y", -((x - Y3) ** 2))


def mean_field():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    see(pyro.sample("z", dist.Normal(x, 1.0)))


def mean_field_guide():
    x = pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0))
    pyro.sample("z", dist.Normal(x + pyro.param("shift", torch.tensor(0.2)), 0.8))


def other_order_guide():
    z = pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0))
    pyro.sample("x", dist.Normal(0.5 * z, 0.7))


def deterministic():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    see(pyro.deterministic("twice", 2 * x))


@poutine.reparam(config={"z": LocScaleReparam(0.0)})
def reparametrised():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    see(pyro.sample("z", dist.Normal(x, 0.5)))


def reparametrised_guide():
    normal_guide()
    pyro.sample("z_decentered", dist.Normal(pyro.param("d", torch.tensor(0.2)), 0.9))


def point_guide():
    pyro.sample("x", dist.Delta(pyro.param("point", torch.tensor(0.3))))


def auxiliary():
    see(pyro.sample("x", dist.Normal(0.0, 1.0)))


def auxiliary_guide():
    u = pyro.sample("u", dist.Bernoulli(p_of()), infer={"is_auxiliary": True})
    pyro.sample("x", dist.Normal(0.5 * u + pyro.param("loc", torch.tensor(0.1)), 0.6))


def shifted():
    fn = dist.TransformedDistribution(dist.Normal(0.0, 1.0), [AffineTransform(0.5, 2.0)])
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", fn, obs=torch.tensor(0.4))
    see(x, name="w")


CASES = {
    **{f"mask {mask}": Case(masked_data(mask), normal_guide, n=60) for mask in (True, torch.tensor(True))},
    "mask of rows": Case(masked_rows, trained_guide, n=60),
    **{f"scale {scale}": Case(scaled_data(scale), normal_guide, n=60) for scale in (1, 0.1, torch.tensor(0.5))},
    "scale of rows": Case(scaled_rows, trained_guide, n=60),
    "annealed KL": Case(annealed, annealed_guide),
    "scaled coins": Case(scaled_coins, scaled_coins_guide),
    "masked coins": Case(masked_coins, masked_coins_guide),
    "factor": Case(factor, trained_guide, n=60),
    "factor of a coin": Case(factor_of_coin, coin_guide),
    "factor of rows": Case(factor_of_rows, trained_guide, n=60),
    "mean field": Case(mean_field, mean_field_guide, n=60),
    "mean field, other order": Case(mean_field, other_order_guide, n=60),
    "deterministic": Case(deterministic, normal_guide, n=60),
    "reparam": Case(reparametrised, reparametrised_guide, n=60),
    "point": Case(auxiliary, point_guide),
    "auxiliary coin": Case(auxiliary, auxiliary_guide, n=60),
    "transformed data": Case(shifted, normal_guide, n=60),
}
