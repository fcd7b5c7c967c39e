"""The progress bar writes seldom, to where it is looked at, and no red box in a notebook."""

import importlib.util
import io
import sys
import types
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.runtime.progress import advance, progress_bar


class Stream(io.StringIO):
    """Counts what is written. tty: whether it is a terminal."""

    def __init__(self, tty):
        super().__init__()
        self.tty, self.writes = tty, []

    def isatty(self):
        return self.tty

    def write(self, text):
        self.writes += [text] if text.strip() else []
        return super().write(text)


@pytest.fixture
def streams(monkeypatch):
    """(standard output, standard error) of a process, made by the function that is returned."""

    def make(tty):
        found = Stream(tty), Stream(tty)
        for name, stream in zip(("stdout", "stderr"), found, strict=True):
            monkeypatch.setattr(sys, name, stream)
        return found

    return make


@pytest.fixture
def notebook(monkeypatch):
    """Pretends to be a kernel, with ipywidgets or without."""

    def pretend(widgets):
        shell = types.SimpleNamespace(kernel=object())
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
        real = importlib.util.find_spec
        found = real("ipywidgets") if widgets else None
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "ipywidgets" else real(name))

    return pretend


def run(total=2000, done=0):
    with progress_bar(total, True, " steps", done) as bar:
        for step in range(done, 2000):
            advance(bar, 1, f"-ELBO {2000 - step:,.2f} nats")
        bar.refresh()


def test_a_terminal_sees_the_loss_and_the_time_left_on_standard_error(streams):
    out, err = streams(tty=True)
    run()
    assert not out.writes and 2 <= len(err.writes) <= 8  # the first, the last, and five a second
    assert "-ELBO 1.00 nats" in err.getvalue() and "2000/2000" in err.getvalue() and "<" in err.writes[-2]


def test_a_file_and_a_log_see_nothing(streams):
    out, err = streams(tty=False)
    run()
    assert not out.writes and not err.writes
    sys.stderr = None  # as under pythonw
    run()


def test_a_bar_that_is_not_wanted_writes_nothing(streams):
    out, err = streams(tty=True)
    with progress_bar(10, False, " steps") as bar:
        advance(bar, 10, "loss")
    assert not out.writes and not err.writes


def test_a_notebook_without_ipywidgets_has_a_line_and_no_red_box(streams, notebook):
    out, err = streams(tty=False)
    notebook(widgets=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # tqdm.auto would warn
        run()
    assert not err.writes and 2 <= len(out.writes) <= 8 and "\n" not in out.getvalue().strip()


def test_a_notebook_with_ipywidgets_has_a_widget(streams, notebook):
    pytest.importorskip("ipywidgets")
    out, err = streams(tty=False)
    notebook(widgets=True)
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tqdm.notebook.display", lambda *things, **options: shown.append(things), raising=False)
        run()
    assert len(shown) == 1 and not err.writes and not out.writes


def test_a_run_that_goes_on_counts_on_and_one_without_an_end_has_no_time_left(streams):
    _, err = streams(tty=True)
    run(done=1500)
    assert "1500/2000" in err.writes[0]
    _, err = streams(tty=True)
    with progress_bar(None, True, " steps") as bar:
        advance(bar, 7, "loss")
        bar.refresh()
    assert "7 steps" in err.writes[-1] and "%" not in err.getvalue()


def test_a_fit_shows_loss_and_rate(streams):
    def model(y):
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    _, err = streams(tty=True)
    credo.fit(model, "mean_field", torch.ones(3), steps=300, compile=False, plan="fast", lr=lambda step: 0.07)
    assert "-ELBO" in err.getvalue() and "lr 0.07" in err.getvalue() and "/300" in err.getvalue()
    assert len(err.writes) < 60
