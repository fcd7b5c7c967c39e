"""A new estimator is one new file and one line in a list: done in a copy of the tree, then seen in a plan and a run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ESTIMATOR = '''"""REINFORCE without a baseline: grad E_q[cost] = E_q[R_s grad log q_s(z_s)] (Williams 1992)."""

from .estimator import LOG_Q, Estimator
from .recipe import Part
from .score import ESTIMATOR as SCORE
from .score import why_not


def because(name, seen, options):
    return f"{name} gets the plain score function"


def enter(recipe, chosen):
    scored = SCORE.enter(recipe, chosen)
    if scored is recipe:
        return recipe
    part = scored.parts[-1]
    return scored._replace(parts=(*recipe.parts, Part(part.of_draw, _add, part.guide)))


def _add(loss, found, baselines):
    return loss + sum((score.log_q * score.cost).mean(0).sum() for score in found.values())


ESTIMATOR = Estimator("reinforce", (LOG_Q,), why_not, because, enter, beaten_by=lambda other: other != "reinforce")
'''
USE = """
import pyro, pyro.distributions as dist, torch, credo
assert credo.__file__.startswith(HERE), credo.__file__

def model(x):
    k = pyro.sample("k", dist.Bernoulli(0.3))
    pyro.sample("x", dist.Normal(2.0 * k, 1.0), obs=x)

def guide(x):
    pyro.sample("k", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.4))))

x = torch.tensor(1.3)
print(credo.plan(model, guide, x, plan={"k": "reinforce"}))
print("rather than enumerate" not in str(credo.plan(model, guide, x)))
svi = credo.SVI(model, guide, plan={"k": "reinforce"}, particles=20_000, progress=False)
found = svi.gradients(x)["logit"]
logit = torch.tensor(0.4, requires_grad=True)
q = torch.stack([torch.sigmoid(-logit), torch.sigmoid(logit)])
log_p = dist.Bernoulli(0.3).log_prob(torch.tensor([0.0, 1.0])) + dist.Normal(torch.tensor([0.0, 2.0]), 1.0).log_prob(x)
(exact,) = torch.autograd.grad((q * (q.log() - log_p)).sum(), logit)
assert abs(found - exact) < 0.05, (found, exact)
print("unbiased")
"""


def test_one_file_and_one_line_are_an_estimator(tmp_path):
    for folder in ("credo", "models", "guides", "inference"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "inference/estimators/reinforce.py").write_text(ESTIMATOR)
    listed = tmp_path / "inference/planning/legal.py"
    code = listed.read_text()
    code = code.replace("import enumerate, ", "import enumerate, reinforce, ", 1)
    code = code.replace("    score.ESTIMATOR,\n", "    score.ESTIMATOR,\n    reinforce.ESTIMATOR,\n", 1)
    listed.write_text(code)
    run = subprocess.run(
        [sys.executable, "-c", f"HERE = {str(tmp_path)!r}\n{USE}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "reinforce" in run.stdout and "asked for" in run.stdout and "unbiased" in run.stdout
