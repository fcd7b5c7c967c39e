"""Successive halving, with candidates whose NLL is known."""

import pytest
import torch
from torch import nn

from credo.treatments.chosen import chosen_at_full_length, chosen_by_validation, row_losses, said_of
from credo.treatments.scores import scores
from credo.treatments.treatment import Budget, Trained

X, Y = torch.randn(50, 3), torch.randint(0, 2, (50,))
BUDGET = Budget(steps=800, batch_size=8, lr=1e-2)


def known(name, probability, seen):
    """A treatment that gives the right class of every row this probability: its NLL is -log of it."""
    rows = {tuple(row.tolist()): int(label) for row, label in zip(X, Y, strict=True)}

    def treatment(net, x, y, budget):
        seen.append((name, len(x), budget.steps))

        def predict(x, draws):
            right = torch.tensor([rows[tuple(row.tolist())] for row in x])
            return torch.where(nn.functional.one_hot(right, 2) == 1, probability, 1 - probability)[None]

        return Trained(predict, 1, f"{name} itself")

    return treatment


def test_the_better_half_goes_on_and_all_steps_are_those_of_the_budget():
    seen = []
    candidates = {name: known(name, p, seen) for name, p in zip("abcd", (0.5, 0.9, 0.7, 0.6), strict=True)}
    trained = chosen_by_validation(candidates, nn.Linear(3, 2), X, Y, BUDGET)
    assert seen == [*[(n, 40, 50) for n in "abcd"], *[(n, 40, 100) for n in "bc"], ("b", 50, 400)]
    assert sum(steps for *_, steps in seen) == BUDGET.steps
    assert trained.words == (
        "'b' of 4 by the NLL of 10 validation rows, in nats (50 steps each: a 0.6931 (0.0000), b 0.1054 (0.0000), "
        "c 0.3567 (0.0000), d 0.5108 (0.0000); 100 steps each: b 0.1054 (0.0000), c 0.3567 (0.0000)), "
        "0.2513 (0.0000) before 'c', then 400 steps on all rows: b itself"
    )


def test_one_candidate_needs_no_search():
    seen = []
    assert chosen_by_validation({"a": known("a", 0.5, seen)}, None, X, Y, BUDGET).words == "a itself"
    assert seen == [("a", 50, 800)]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"candidates: got none"):
        chosen_by_validation({}, None, X, Y, BUDGET)
    two = {name: known(name, 0.5, []) for name in "ab"}
    with pytest.raises(ValueError, match=r"share: got 1"):
        chosen_by_validation(two, None, X, Y, BUDGET, share=1)
    with pytest.raises(ValueError, match=r"budget: 2 steps and 50 rows do not suffice"):
        chosen_by_validation(two, None, X, Y, BUDGET._replace(steps=2))


@pytest.mark.parametrize("kind", [ValueError, ArithmeticError])  # `credo.Diverged` is one of the second kind
def test_a_candidate_that_diverges_loses_and_all_of_them_are_an_error(kind):
    def diverging(net, x, y, budget):
        raise kind("the loss is nan after the last step")

    found = chosen_by_validation({"a": diverging, "b": known("b", 0.6, [])}, None, X, Y, BUDGET)
    assert found.words.startswith("'b' of 2") and "a inf, b 0.5108 (0.0000)" in found.words
    assert "before" not in found.words
    with pytest.raises(ValueError, match=r"none of \['a', 'b'\] has a finite NLL; .*: the loss is nan") as raised:
        chosen_by_validation({"a": diverging, "b": diverging}, None, X, Y, BUDGET)
    assert "the loss is nan" in str(raised.value.__cause__)


def test_at_full_length_each_has_all_steps_on_four_fifths_and_the_best_then_all_rows():
    seen = []
    candidates = {name: known(name, p, seen) for name, p in zip("abc", (0.5, 0.9, 0.7), strict=True)}
    trained = chosen_at_full_length(candidates, nn.Linear(3, 2), X, Y, BUDGET)
    assert seen == [*[(name, 40, 800) for name in "abc"], ("b", 50, 800)]
    assert trained.words == (
        "'b' of 3, 800 steps each, by the NLL of 10 validation rows, in nats (a 0.6931 (0.0000), b 0.1054 (0.0000), "
        "c 0.3567 (0.0000)), 0.2513 (0.0000) before 'c', then on all rows: b itself"
    )
    assert chosen_at_full_length({"a": known("a", 0.5, [])}, None, X, Y, BUDGET).words == "a itself"
    with pytest.raises(ValueError, match=r"candidates: got none"):
        chosen_at_full_length({}, None, X, Y, BUDGET)
    with pytest.raises(ValueError, match=r"x: got 4 rows, wanted at least 5"):
        chosen_at_full_length(candidates, None, X[:4], Y[:4], BUDGET)


@pytest.mark.parametrize("classes", [True, False])
def test_the_losses_of_rows_have_the_mean_of_the_scores_and_the_standard_error_of_their_spread(classes):
    """Of classes by the average probability, of numbers by the mixture of normals; 3,000 rows come in pieces."""
    torch.manual_seed(0)
    x = torch.randn(3000, 4)
    y = torch.randint(0, 4, (3000,)) if classes else torch.randn(3000)

    def predict(x, draws):
        shifted = x[None] + torch.arange(draws)[:, None, None] / draws
        return shifted.softmax(-1) if classes else torch.stack([shifted[..., 0], shifted[..., 1].exp()], -1)

    trained = Trained(predict, 1, "")
    losses = row_losses(trained, x, y, 32)
    draws = predict(x, 32).double()
    if classes:
        expected = -draws.mean(0)[torch.arange(3000), y].log()
    else:
        expected = -torch.distributions.Normal(draws[..., 0], draws[..., 1]).log_prob(y.double()).exp().mean(0).log()
    assert losses.shape == (3000,) and losses.allclose(expected, atol=1e-5)
    assert losses.mean().item() == pytest.approx(scores(trained, x, y, 32)["nll"], abs=1e-5)
    assert said_of(torch.tensor([1.0, 2.0, 3.0, 6.0])) == "3.0000 (1.0801)"  # sqrt((4 + 1 + 0 + 9) / 3 / 4)
    assert said_of(torch.tensor([1.0])) == "1.0000 (0.0000)" and said_of(torch.tensor([1.0, torch.inf])) == "inf"
