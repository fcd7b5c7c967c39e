"""The code of docs/how-to/watching.md runs as it stands, from top to bottom, and does what the page says."""

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "watching.md"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own imports
def test_the_code_of_the_page_runs():
    pytest.importorskip("tensorboard")
    text, fits, names = PAGE.read_text(encoding="utf-8"), [], {}
    blocks = [(found.start(), found[1]) for found in re.finditer(r"```python\n(.*?)```", text, re.S)]
    for start, code in blocks:
        lines = text.count("\n", 0, start) + 1  # so that an error names the line of the page
        exec(compile("\n" * lines + code, str(PAGE), "exec"), names)
        fits.append(names.get("fit"))
    assert len(blocks) == 7 and len(fits[1].losses) == 1000
    assert fits[2].stopped == "ended by the callback at step 300" and len(fits[3].losses) == 500
    assert fits[4].plan.updates == "natural gradients for site 'b'"
    assert "kept the parameters of step" in fits[5].stopped and [len(v) for v in fits[5].data] == [160, 160]
    assert len(names["svi"].losses) == 20
    for fit in fits[1:5]:
        assert torch.allclose(fit.sample(500)["b"].mean(0), torch.tensor([1.0, -2.0, 0.0]), atol=0.2)
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = events.EventAccumulator(names["folder"]).Reload()
    assert [event.step for event in log.Scalars("-ELBO")] == list(range(100, 1001, 100))
    assert log.Scalars("-ELBO")[-1].value == pytest.approx(fits[1].losses[-1], rel=1e-5)
    assert len(log.Tags()["histograms"]) == 2
