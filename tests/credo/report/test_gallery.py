"""A fit gets its pictures by what it is: read off the axes that were drawn, not off pixels."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

import credo
from credo import metrics
from credo.models import coin_toss
from credo.pairs import load_alone
from credo.report import held_out
from credo.report.gallery import gallery
from credo.report.of_images import _nearest
from credo.report.vector import Picture

CLASSIFIER = """
import pyro, torch, pyro.distributions as dist

def model(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1], 3), 1.0).to_event(2))
    logits = x @ w
    pyro.deterministic("probs", logits.softmax(-1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Categorical(logits=logits), obs=y)

def guide(x, y=None):
    m = pyro.param("m", torch.zeros(x.shape[1], 3))
    pyro.sample("w", dist.Normal(m, 0.1).to_event(2))
"""
UNSEEN = "\ndef held_out(x, y):\n    return 1 - x[:12], y[:12]\n"
CODER = """
import pyro, torch, pyro.distributions as dist

def model(x, k=2):
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(k), 1.0).to_event(1))
        ink = z.sum(-1, keepdim=True).sigmoid().expand(-1, 16)
        pyro.sample("x", dist.Bernoulli(ink).to_event(1), obs=x)

def guide(x, k=2):
    a = pyro.param("a", torch.ones(k))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(a * x[:, :k], 0.1).to_event(1))

def held_out(x, *rest):
    return x.flip(0), *rest
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], credo.Pair]:
    def one(text: str) -> credo.Pair:
        (tmp_path / "pair.py").write_text(text)
        return credo.load(str(tmp_path / "pair.py"))

    return one


def shown(figure: Figure) -> list[Text]:
    """The texts of a figure of one Axes, without the labels of ticks outside of its limits."""
    (ax,) = figure.axes
    ticks = []
    for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
        ticks += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    words = [] if ax.get_legend() is None else ax.get_legend().get_texts()
    every = [*figure.texts, *ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label, *ticks, *words]
    return [text for text in every if text.get_text().strip() and (ax.axison or text not in ticks)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """{name: Axes} of the pictures that were saved."""
    found, save = {}, Figure.savefig

    def keep(figure: Figure, path: Path, **settings: Any) -> None:
        found[path.stem] = figure.axes[0]
        figure.draw_without_rendering()
        for text in shown(figure):
            box = text.get_window_extent()  # nothing is cut off; the engine of the layout rounds
            inside = box.x0 > -2 and box.y0 > -2 and box.x1 < figure.bbox.x1 + 2 and box.y1 < figure.bbox.y1 + 2
            assert inside, (path.stem, text.get_text(), box)
        save(figure, path, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


def rows(n: int = 40, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.rand(n, width, generator=random), torch.randint(3, (n,), generator=random)


def sentences(pictures: list[Picture]) -> dict[str, str]:
    """{file: its sentence}; every picture has a headline as well."""
    assert all(picture.headline and picture.sentence.endswith(".") for picture in pictures)
    return {picture.file: picture.sentence for picture in pictures}


def legend(ax: Any) -> list[str]:
    return [t.get_text() for t in ax.get_legend().get_texts()]


def test_a_classifier_of_images(load, drawn, tmp_path, unchanged):
    pair, (x, y) = load(CLASSIFIER + UNSEEN), rows()
    fit = credo.fit(pair.model, pair.guide, x, y, steps=5, progress=False)
    with unchanged():
        pictures = gallery(fit, tmp_path / "out")
    names = ["reliability.svg", "strangeness.svg", "certainty.svg", "loss.svg"]
    assert [picture.file for picture in pictures] == names
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(names)
    assert "Of 12 held-out rows" in sentences(pictures)["reliability.svg"]
    probs = fit.predict(held_out.DRAWS, 1 - x[:12])["probs"]
    line = drawn["reliability"].lines[1]  # one point of so few rows
    assert list(line.get_ydata()) == pytest.approx([metrics.classification(probs, y[:12])["accuracy"]])
    entropy = torch.tensor(metrics.uncertainty(probs)["total"].tolist())
    inverted = torch.tensor(metrics.uncertainty(fit.predict(held_out.DRAWS, x[:12])["probs"])["total"].tolist())
    shown = legend(drawn["strangeness"])
    assert shown[0] == "held-out images" and shown[1].startswith("noise (AUROC")
    assert shown[2] == f"inverted (AUROC {metrics.auroc(entropy, inverted):.2f})"


def test_the_most_and_the_least_certain(load, drawn, tmp_path):
    pair, (x, y) = load(CLASSIFIER), rows()
    fit = credo.fit(pair.model, pair.guide, x, y, steps=20, progress=False)
    captions = sentences(pictures := gallery(fit, tmp_path))
    probs = fit.predict(held_out.DRAWS)["probs"].double().mean(0)
    entropy = torch.special.entr(probs).sum(-1)
    order, guess = entropy.argsort(), probs.argmax(-1)
    images = drawn["certainty"].images
    assert len(images) == 20
    for image, i in ((images[0], order[0]), (images[9], order[9]), (images[10], order[-1])):
        assert torch.equal(torch.as_tensor(image.get_array().data), x[i].reshape(4, 4))
    first = drawn["certainty"].texts[0].get_text()
    truth = "" if guess[order[0]] == y[order[0]] else f" ({y[order[0]]})"
    assert first == f"{guess[order[0]]}{truth}\n{entropy[order[0]]:.2f}"
    assert "10 training images" in captions["certainty.svg"] and "Of 40 training rows" in captions["reliability.svg"]
    wrong = guess != y
    sure, unsure = wrong[order[:10]].sum(), wrong[order[-10:]].sum()
    assert {p.file: p.headline for p in pictures}["certainty.svg"] == (
        f"{unsure} of the 10 least certain predictions are wrong, {sure} of the most certain; "
        f"{100 * wrong.double().mean():.1f} % of all 40"
    )


def test_a_classifier_of_measurements_has_no_images(load, drawn, tmp_path):
    pair, (x, y) = load(CLASSIFIER), rows(width=4)
    for inputs, forest in ((x, {"forest.svg"}), (3 * rows()[0], set())):  # too few for an image; not from 0 to 1
        fit = credo.fit(pair.model, pair.guide, inputs, y, steps=2, progress=False)
        assert set(sentences(gallery(fit, tmp_path))) == {"reliability.svg", "loss.svg"} | forest
    assert len(drawn["forest"].get_yticklabels()) == 12  # 4 measurements and 3 classes; 48 scalars are too many


def test_scores_are_those_of_the_rows_held_out(load):
    x, y = rows()
    for text, name, (a, b) in (
        (CLASSIFIER, "40 training rows", (x, y)),
        (CLASSIFIER + UNSEEN, "12 held-out rows", (1 - x[:12], y[:12])),
    ):
        pair = load(text)
        fit = credo.fit(pair.model, pair.guide, x, y, steps=3, progress=False)
        found = held_out.scores(fit)
        wanted = metrics.classification(fit.predict(held_out.DRAWS, a)["probs"], b)
        assert found.name == name and found.to_dict() == wanted.to_dict()


def test_rows_in_parts_are_the_same_rows(load, monkeypatch):
    pair, (x, y) = load(CLASSIFIER.replace("0.1)", "1e-6)")), rows()  # all draws are nearly the same
    fit = credo.fit(pair.model, pair.guide, x, y, steps=3, progress=False)
    wanted = (x @ fit.params["m"]).softmax(-1)
    for size in (2000, 7):
        monkeypatch.setattr(held_out, "CHUNK", size)
        assert torch.allclose(held_out.probabilities(fit, 40), wanted.expand(held_out.DRAWS, 40, 3), atol=1e-4)


def test_rows_held_out_are_refused_or_left_where_they_do_not_fit(load):
    x, y = rows()
    pair = load(CLASSIFIER + "\ndef held_out(x, y):\n    return (x,)\n")
    fit = credo.fit(pair.model, pair.guide, x, y, steps=1, progress=False)
    with pytest.raises(ValueError, match="held_out: returned 1 values, wanted 2"):
        held_out.held_out(fit)
    pair = load(CLASSIFIER + "\ndef held_out(x, y):\n    return torch.rand(5, 64), y[:5]\n")
    fit = credo.fit(pair.model, pair.guide, x, y, steps=1, progress=False)
    assert held_out.held_out(fit) == (fit, "training")


def test_what_is_no_classifier(load):
    wrong = CLASSIFIER.replace('"probs", logits.softmax(-1)', '"probs", logits.softmax(-1)[:5]')
    for text in (wrong, CLASSIFIER.replace('"probs"', '"p"'), CODER.replace("16)", "16)\n        probs = ink")):
        pair, (x, y) = load(text), rows()
        data = (x, y) if "y=None" in text else (x.round(),)
        fit = credo.fit(pair.model, pair.guide, *data, steps=1, progress=False)
        assert held_out.scores(fit) is None


def test_images_with_latents_of_their_own(load, drawn, tmp_path):
    pair, x = load(CODER), rows(30)[0].round()
    fit = credo.fit(pair.model, pair.guide, x, steps=5, progress=False)
    captions = sentences(gallery(fit, tmp_path))
    assert set(captions) == {"images.svg", "prior.svg", "plane.svg", "loss.svg"}
    images = [torch.as_tensor(i.get_array().data) for i in drawn["images"].images]
    below = [t.get_text() for t in drawn["images"].texts]
    assert below[-4:] == ["held-out", "by the fit", "PCA", "mean image"]
    assert len(images) == 20 and torch.equal(torch.stack(images[:5]).to(x), x.flip(0)[:5].reshape(5, 4, 4))
    assert all(torch.allclose(image.double(), x.double().mean(0).reshape(4, 4)) for image in images[15:])
    for text, image, true in zip(below[5:20], images[5:], 3 * images[:5], strict=True):
        assert float(text) == pytest.approx((image - true).square().mean().sqrt().item(), abs=0.02)  # clamped to 0..1
    mean, made = (
        torch.stack([torch.as_tensor(i.get_array().data) for i in drawn["prior"].images[a:][:5]]) for a in (0, 5)
    )
    assert all(len(image.unique()) == 1 for image in mean)  # one probability for all pixels
    assert set(made.unique().tolist()) == {0, 1}
    found = torch.tensor([i.get_extent() for i in drawn["plane"].images]).reshape(-1, 2, 2).mean(-1)
    assert torch.allclose(found, (fit.params["a"] * x.flip(0)[:, :2]).to(found), atol=1e-5)
    assert captions["plane.svg"].endswith("the means of z for 30 held-out images.")
    assert (drawn["plane"].get_xlabel(), drawn["plane"].get_ylabel()) == ("z[0]", "z[1]")


def test_the_plane_of_many_latents_is_that_of_the_largest_spread(load, drawn, tmp_path):
    pair, x = load(CODER), rows(30)[0].round()
    fit = credo.fit(pair.model, pair.guide, x, 3, steps=2, progress=False)
    gallery(fit, tmp_path)
    z = (fit.params["a"] * x.flip(0)[:, :3]).double()
    variances = torch.linalg.eigvalsh(torch.cov(z.T)).flip(0)
    found = torch.tensor([i.get_extent() for i in drawn["plane"].images]).double().reshape(-1, 2, 2).mean(-1)
    assert torch.allclose(torch.cov(found.T), variances[:2].diag(), atol=1e-4)
    for name, share in zip((drawn["plane"].get_xlabel(), drawn["plane"].get_ylabel()), variances, strict=False):
        assert f" of z ({100 * share / variances.sum():.0f} %)" in name


def test_prior_samples_come_from_the_prior(load):
    pair = load(CODER)
    fit = credo.fit(pair.model, pair.guide, torch.ones(2000, 16), steps=1, progress=False)
    mean, draw = held_out.prior_samples(fit, "x")
    # z1 + z2 ~ N(0, 2): as likely below as above 0, and E sigmoid(z)^2 by quadrature; the guide has z near (1, 1).
    grid = torch.linspace(-15, 15, 3001, dtype=torch.float64)
    second = torch.trapezoid(dist.Normal(0.0, 2**0.5).log_prob(grid).exp() * grid.sigmoid() ** 2, grid).item()
    assert mean[:, 0].mean().item() == pytest.approx(0.5, abs=0.03)
    assert mean[:, 0].square().mean().item() == pytest.approx(second, abs=0.03)
    assert (draw - mean).mean().abs() < 0.02


def test_global_latents_make_no_reconstruction(load, drawn, tmp_path):
    def model(x):
        p = pyro.sample("p", dist.Beta(torch.ones(16), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Bernoulli(p).to_event(1), obs=x)

    fit = credo.fit(model, None, rows()[0].round(), steps=2, progress=False)
    assert held_out.image_site(fit) is None
    assert list(sentences(gallery(fit, tmp_path))) == ["forest.svg", "loss.svg"]


def finite(x):
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(k.to(x.dtype), 1.0), obs=x)


def finite_guide(x):
    pyro.sample("k", dist.Categorical(logits=pyro.param("logits", torch.tensor([0.0, 1.0, 2.0]))))


def test_a_finite_latent_beside_prior_and_posterior(drawn, tmp_path):
    fit = credo.fit(finite, finite_guide, torch.tensor([0.5, 1.0]), steps=0, progress=False)
    exact = SimpleNamespace(marginals={"k": dist.Categorical(torch.tensor([0.1, 0.6, 0.3]))}, log_evidence=0.0)
    names = set(sentences(gallery(fit, tmp_path, exact)))
    assert {"masses.svg", "loss.svg"} <= names and "belief.svg" not in names
    bars = {bars.get_label(): [bar.get_height() for bar in bars] for bars in drawn["masses"].containers}
    assert bars["prior"] == pytest.approx([0.2, 0.3, 0.5])
    assert bars["exact"] == pytest.approx([0.1, 0.6, 0.3])
    assert bars["fit"] == pytest.approx(torch.tensor([0.0, 1.0, 2.0]).softmax(0).tolist())
    assert drawn["masses"].get_xlabel() == "k"
    assert [t.get_text() for t in drawn["masses"].get_xticklabels()] == ["0", "1", "2"]


def test_every_real_latent_gets_its_belief(drawn, tmp_path):
    def model(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b/c", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

    fit = credo.fit(model, None, torch.tensor([0.5, 1.0]), steps=3, progress=False)
    assert set(sentences(gallery(fit, tmp_path))) == {
        "belief.svg",
        "belief_b_c.svg",
        "predictive.svg",
        "loss.svg",
    }
    assert [drawn[name].get_xlabel() for name in ("belief", "belief_b_c")] == ["a", "b/c"]
    for point in ("map", "mle"):  # which have no density to draw
        fit = credo.fit(model, point, torch.tensor([0.5, 1.0]), steps=3, progress=False)
        assert set(sentences(gallery(fit, tmp_path))) == {"predictive.svg", "loss.svg"}
    assert not (tmp_path / "belief_b_c.svg").exists() or point == "mle"


def test_a_comparison_is_drawn_if_it_can_be_read(drawn, tmp_path):
    pair, x = credo.load("linear_regression"), torch.linspace(-1, 1, 30)
    fit = credo.fit(pair.model, pair.guide, x[:, None], 2 * x, steps=5, progress=False)
    table = credo.compare(fit)
    assert "intervals.svg" in sentences(gallery(fit, tmp_path, pair.posterior(*fit.data), table))
    assert [t.get_text() for t in drawn["intervals"].get_yticklabels()] == list(table.index)
    assert {line.get_label() for line in drawn["belief"].lines} == {"prior", "fit", "exact"}
    for useless in (pd.concat([table] * 30), table.head(1), table.assign(**{"exact sd": float("nan")})):
        assert "intervals.svg" not in sentences(gallery(fit, tmp_path, None, useless))
    assert not (tmp_path / "intervals.svg").exists()


def test_the_lesson_of_the_coin(drawn, tmp_path):
    pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 0.0, 1.0, 1.0])
    fit = credo.fit(pair.model, pair.guide, flips, steps=2, progress=False)
    gallery(fit, tmp_path, None, None, coin_toss.lesson(flips))
    assert {"MLE 0.75", "MAP 0.6667"} <= {line.get_label() for line in drawn["belief"].lines}
    assert "lesson" in drawn
    other = pd.DataFrame({"depth": [1, 2]})
    assert "lesson.svg" not in sentences(gallery(fit, tmp_path, None, None, other))
    assert not (tmp_path / "lesson.svg").exists()  # the picture of before is not of this fit


def test_belief_after_few_rows_beside_belief_after_all(drawn, tmp_path):
    """Where the pair's `posterior` knows it: by conjugacy, Beta(2 + heads, 2 + tails)."""
    pair, flips = credo.load("coin_toss"), (torch.arange(300) % 3 == 0).float()
    fit = credo.fit(pair.model, pair.guide, flips, steps=2, progress=False)
    pictures = {
        picture.file: picture
        for picture in gallery(fit, tmp_path, pair.posterior(flips), None, coin_toss.lesson(flips))
    }
    labels = [label.get_text().split("\n")[0] for label in drawn["updates"].get_yticklabels()]
    assert labels == ["before the data", "after 10 flips", "after 300 flips"]
    curves = [line for line in drawn["updates"].lines if len(line.get_xdata()) > 2]
    for i, (curve, heads, n) in enumerate(zip(curves, (0, 4, 100), (0, 10, 300), strict=True)):
        p, height = (torch.as_tensor(v, dtype=torch.float64) for v in curve.get_data())
        wanted = dist.Beta(2.0 + heads, 2.0 + n - heads).log_prob(p.float()).exp().double()
        assert torch.allclose((height + i) / (height + i).max(), wanted / wanted.max(), atol=1e-3)
    first, last = (dist.Beta(2.0 + h, 2.0 + n - h).variance.sqrt().item() for h, n in ((0, 0), (100, 300)))
    assert pictures["updates.svg"].headline == f"The sd of p falls from {first:.2g} to {last:.2g}"
    few = credo.fit(pair.model, pair.guide, flips[:20], steps=2, progress=False)
    assert "updates.svg" not in sentences(gallery(few, tmp_path, pair.posterior(flips[:20])))


def test_the_plane_has_the_classes_that_the_file_knows(load, drawn, tmp_path):
    pair, x = load(CODER + "\ndef labels(x, *rest):\n    return (x[:, 0] > 0).long()\n"), rows(30)[0].round()
    fit = credo.fit(pair.model, pair.guide, x, steps=2, progress=False)
    pictures = {picture.file: picture for picture in gallery(fit, tmp_path)}
    first = fit.params["a"] * x.flip(0)[:, :2]
    for line, value in zip(drawn["plane"].lines, (0, 1), strict=True):
        assert line.get_label() == str(value)
        there = x.flip(0)[:, 0] == value
        assert (
            torch.as_tensor(line.get_xydata()).sort(0).values.allclose(first[there].double().sort(0).values, atol=1e-5)
        )
    assert "by chance" in pictures["plane.svg"].headline and "never saw" in pictures["plane.svg"].sentence


def test_rows_held_out_are_no_test_of_a_fit_to_other_data(load):
    """The file's own rows come with its own data: of somebody else's 64 columns they say nothing."""
    x, y = rows()
    n, d = x.shape
    built_in = f"\ndef data():\n    return torch.arange({n * d}).reshape({n}, {d}) / {n * d}, torch.arange({n}) % 3\n"
    pair = load(CLASSIFIER + UNSEEN + built_in)
    for data, name in ((pair.data(), "12 held-out rows"), ((x, y), f"{len(x)} training rows")):
        fit = credo.fit(pair.model, pair.guide, *data, steps=3, progress=False)
        assert held_out.scores(fit).name == name


def test_no_curve_of_a_belief_without_an_sd(drawn, tmp_path):
    """The other pictures are drawn all the same, also where the pair's `posterior` fails for few rows."""
    path = tmp_path / "pair.py"
    prior = "dist.Cauchy(0.0, 1.0)"
    text = f"""
import pyro, torch, pyro.distributions as dist
from types import SimpleNamespace

def model(x):
    a = pyro.sample("a", {prior})
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(a, 1.0), obs=x)

def posterior(x):
    if len(x) < FEWEST:
        raise RuntimeError("too few")
    return SimpleNamespace(marginals={{"a": dist.Normal(x.mean(), len(x) ** -0.5)}}, log_evidence=float("nan"))
"""
    for few, fn in ((0, prior), (11, "dist.Normal(0.0, 1.0)")):
        path.write_text(text.replace("FEWEST", str(few)).replace(prior, fn))
        pair = load_alone(str(path))
        fit = credo.fit(pair.model, "mean_field", torch.zeros(200), steps=2, progress=False)
        names = set(sentences(gallery(fit, tmp_path / "out", pair.posterior(*fit.data))))
        assert names == {"belief.svg", "predictive.svg", "loss.svg"}


def test_a_fit_without_steps_has_no_loss(drawn, tmp_path):
    pair, x = credo.load("linear_regression"), torch.linspace(-1, 1, 30)
    fit = credo.fit(pair.model, None, x[:, None], 2 * x)
    assert fit.method == "exact" and "loss.svg" not in sentences(gallery(fit, tmp_path))


def test_fewer_than_twenty_images_are_all_shown(load, drawn, tmp_path):
    pair, (x, y) = load(CLASSIFIER), rows(12)
    fit = credo.fit(pair.model, pair.guide, x, y, steps=2, progress=False)
    found = {p.file: p for p in gallery(fit, tmp_path)}["certainty.svg"]
    wrong = fit.predict(held_out.DRAWS)["probs"].mean(0).argmax(-1) != y
    assert found.headline == f"{int(wrong.sum())} of 12 predictions are wrong"
    assert found.sentence.startswith("All 12 training images,") and len(drawn["certainty"].images) == 12


def test_the_nearest_image_is_not_the_image_itself():
    """Of real numbers, too, for which distances by matrix products are not 0 between equal images."""
    x = torch.rand(60, 64, generator=torch.Generator().manual_seed(0)).double()
    distances = (x[:, None] - x).square().sum(-1).sqrt() + torch.diag(torch.full((60,), torch.inf))
    assert _nearest(x, x) == pytest.approx(distances.amin(1).mean().item())
