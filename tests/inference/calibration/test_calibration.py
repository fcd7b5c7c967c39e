"""What ranks say: Holm's p-values, sizes, words."""

import pandas as pd
import pytest
import torch

from credo.inference.calibration.calibration import Calibration
from credo.inference.calibration.ranks import LIKELIHOOD

S, L = 400, 99


def ranks_of(true, claimed):
    """Ranks of draws from the true normal among those of the claimed one, exact in the limit of many draws."""
    torch.manual_seed(0)
    z = true.sample((S,))
    return (claimed.cdf(z) * (L + 1)).long().clamp(0, L).numpy()


normal = torch.distributions.Normal
UNIFORM = ranks_of(normal(0.0, 1.0), normal(0.0, 1.0))


@pytest.mark.parametrize(
    ("claimed", "shift", "ratio", "words"),
    [
        (normal(0.0, 0.7), 0.0, 0.7, "sd (2[5-9]|3.) % too small"),
        (normal(0.0, 1.5), 0.0, 1.5, "sd [45]. % too large"),
        (normal(0.4, 1.0), 0.4, 1.0, "draws 0.[34].* sds too high"),
        (normal(-0.4, 1.0), -0.4, 1.0, "draws 0.[34].* sds too low"),
    ],
    ids=["narrow", "wide", "high", "low"],
)
def test_sizes_and_words_say_what_is_wrong(claimed, shift, ratio, words):
    ranks = pd.DataFrame({"a": UNIFORM, "b": ranks_of(normal(0.0, 1.0), claimed)})
    found = Calibration(ranks, L, "by hand")
    row = found.table.iloc[0]
    assert row.name == "b" and not found.calibrated
    assert row["shift"] == pytest.approx(shift, abs=0.2) and row["sd_ratio"] == pytest.approx(ratio, rel=0.15)
    assert pd.Series([row["reading"]]).str.fullmatch(words).all()
    assert repr(found).startswith(f"Calibration: not calibrated: b: {row['reading']}")
    assert found.table.loc["a", "reading"] == ""


def test_uniform_ranks_are_calibrated():
    found = Calibration(pd.DataFrame({"a": UNIFORM}), L, "by hand")
    assert found.calibrated and found.words.startswith("calibrated, as far as 400 simulations can tell")
    assert found._repr_html_().startswith("<p>Calibration: calibrated")


def test_p_values_are_adjusted_for_the_number_of_rows():
    """Holm 1979: the least times their number, the next times one less, never falling."""
    torch.manual_seed(1)
    columns = {f"a{i}": torch.randint(0, L + 1, (S,)).numpy() for i in range(5)}
    table = Calibration(pd.DataFrame(columns), L, "by hand").table
    p, adjusted = table["p_value"].tolist(), table["adjusted"].tolist()
    assert p == sorted(p)
    wanted = [max(min(1.0, (5 - j) * p[j]) for j in range(i + 1)) for i in range(5)]
    assert adjusted == pytest.approx(wanted)


def test_false_alarms_are_as_rare_as_they_should_be():
    """50 ranks of 10 scalars each: 5 % of joint p-values are below .05, at most."""
    torch.manual_seed(2)
    joint = []
    for _ in range(40):
        columns = {f"a{i}": torch.randint(0, 20, (50,)).numpy() for i in range(10)}
        joint.append(Calibration(pd.DataFrame(columns), 19, "by hand").p_value)
    assert sum(p < 0.05 for p in joint) <= 6  # 2 are expected; more than 6 with probability .003


def test_between_the_two_levels_nothing_is_claimed():
    torch.manual_seed(0)
    z = 0.145 + torch.randn(S)
    ranks = pd.DataFrame({"a": (normal(0.0, 1.0).cdf(z) * (L + 1)).long().numpy()})
    found = Calibration(ranks, L, "by hand")
    assert 0.001 <= found.p_value < 0.05
    assert found.words.startswith("unclear: a: ") and found.words.endswith("simulations=1600 would tell")


def test_a_log_likelihood_has_words_of_its_own():
    ranks = pd.DataFrame({LIKELIHOOD: ranks_of(normal(0.0, 1.0), normal(-0.5, 1.0))})
    assert Calibration(ranks, L, "by hand").table["reading"].item() == "draws fit the data worse than the truth"
