"""`credo.check(fit, *data)` and `fit.corrected(n, data=data)` of a fit that read its rows by windows."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.cases.windows import MEAN, SD, N, X, Z, in_files, regression, small_windows


def streamed(data, model=regression, **options):
    small = {"steps": 40, "batch_size": 50, "plan": "fast", "compile": False, "progress": False}
    return credo.fit(model, "mean_field", *data, **{**small, **options})


@pytest.fixture
def files(tmp_path, monkeypatch):
    small_windows(monkeypatch)
    return in_files(tmp_path, X, Z)


def test_a_run_that_was_too_short_is_corrected_by_all_rows(files):
    fit = streamed(files)
    assert fit.verdict.trust == "unknown" and "credo.check(fit, *data)" in fit.verdict.remedy
    verdict = credo.check(fit, *files)
    assert verdict.trust == "corrected" and "fit.corrected(n, data=data)" in verdict.remedy
    w = fit.corrected(4000, data=files)["w"].double()
    assert ((w.mean(0) - MEAN) / SD).abs().max() < 0.12
    assert (w.std(0) / SD - 1).abs().max() < 0.1


def test_rows_that_fit_into_memory_now_are_looked_at_whole(files):
    fit = streamed(files)
    assert credo.check(fit, X, Z).trust in ("no", "corrected")


def test_other_rows_are_refused(files, tmp_path):
    fit = streamed(files)
    with pytest.raises(ValueError, match=r"data: got 2,000 rows, and the fit has 3,000"):
        credo.check(fit, files[0][:2000], files[1][:2000])
    with pytest.raises(ValueError, match="y: this argument of the model is missing"):
        credo.check(fit, files[0])
    for x in (X[:, :1], in_files(tmp_path / "few", X[:, :1].repeat(1, 3))[0]):
        with pytest.raises(ValueError, match=r"x: got rows of shape \([13],\), and those of the fit have \(2,\)"):
            credo.check(fit, x, files[1])
    with pytest.raises(ValueError, match=r"fit.corrected\(n, data=data\)"):
        fit.corrected(10)
    whole = streamed((X, Z))
    with pytest.raises(ValueError, match="data: the fit has its rows"):
        credo.check(whole, X, Z)


def test_latents_of_rows_are_unknown(files):
    def local(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 10.0).to_event(1))
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(x @ w, 1.0))
            pyro.sample("y", dist.Normal(z, 0.7), obs=y)

    fit = credo.fit(local, "amortised", *files, steps=5, batch_size=50, plan="fast", compile=False, progress=False)
    verdict = credo.check(fit, *files)
    assert verdict.trust in ("no", "unknown") and any("belong to rows" in reason for reason in verdict.reasons)
    with pytest.raises(ValueError, match="belong to rows"):
        fit.corrected(10, data=files)


def test_labels_have_the_codes_of_the_fit(tmp_path, monkeypatch):
    def groups(group, y):
        with pyro.plate("G", 3):
            m = pyro.sample("m", dist.Normal(0.0, 10.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(m[group], 0.5), obs=y)

    small_windows(monkeypatch)
    words = np.array(["red", "green", "blue"])[np.arange(N) % 3]
    y = np.where(words == "red", 1.0, np.where(words == "green", 2.0, 3.0)) + 0.5 * np.random.default_rng(0).normal(
        size=N
    )
    path = tmp_path / "rows.csv"
    pd.DataFrame({"group": words, "y": y.astype(np.float32)}).to_csv(path, index=False)
    with pytest.warns(UserWarning, match="3 labels became"):
        fit = streamed((path,), groups)
    credo.check(fit, path)
    found = fit.corrected(2000, data=(path,))["m"].mean(0)
    wanted = [y[words == word].mean() for word in fit.codes["group"]]
    assert found.tolist() == pytest.approx(wanted, abs=0.01)


def test_a_run_looks_by_itself_where_that_is_cheap_beside_it(files, monkeypatch):
    monkeypatch.setattr("credo.inference.evaluation.check.SHARE", 100.0)
    monkeypatch.setattr("credo.inference.importance.of_all_rows.source_of", None)  # no file is opened again
    fit = streamed(files)
    assert fit.verdict.trust == "corrected" and "fit.corrected(n) has" in fit.verdict.remedy
    assert fit.corrected(100)["w"].shape == (100, 2)


def test_a_fit_from_its_file_is_looked_at_by_all_rows(files, tmp_path):
    """It has stand-ins in the place of rows; ascents begin on rows of the data."""
    fit = streamed(files)
    fit.save(tmp_path / "fit")
    loaded = credo.load_fit(tmp_path / "fit", regression, "mean_field")
    one, two = fit.corrected(4000, data=files)["w"], loaded.corrected(4000, data=files)["w"]
    torch.testing.assert_close(two.mean(0), one.mean(0), atol=0.002, rtol=0)
    assert credo.check(loaded, *files) == credo.check(fit, *files)


def test_a_point_estimate_has_no_sds(files):
    fit = credo.fit(regression, "map", *files, steps=40, batch_size=50, plan="fast", compile=False, progress=False)
    assert "a point estimate has no sds" in credo.check(fit, *files).reasons[0]


def test_an_argument_without_rows_is_the_user_s_also_for_a_fit_from_its_file(files, tmp_path):
    def scaled(x, y, sd):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), sd).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ w, 0.7), obs=y)

    sd = np.array([1e-3, 10.0])  # a prior that holds the first weight at zero
    fit = streamed((*files, sd), scaled, steps=400)
    fit.save(tmp_path / "fit")
    loaded = credo.load_fit(tmp_path / "fit", scaled, "mean_field")
    x, precision = X.double() / 0.7, torch.diag(torch.tensor([1e-3, 10.0]).double() ** -2)
    mean = torch.linalg.solve(x.T @ x + precision, x.T @ Z.double() / 0.7)
    for each in (fit, loaded):
        w = each.corrected(4000, data=(*files, sd))["w"].double()
        torch.testing.assert_close(w.mean(0), mean, atol=1e-3, rtol=0)
