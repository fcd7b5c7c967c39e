"""What is recorded of a program, and what is refused. Oracle: the program itself."""

import importlib.util
import inspect
import os
import re
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints
from torch.fx.experimental import proxy_tensor

from credo.inference.capture.record import NotCaptured, record
from credo.inference.inputs.places import is_the_users_file
from tests.cases.elbo.expectations import observe, param
from tests.cases.replay.compared import check_equal_runs

X = torch.tensor([1.0, 2.0, 3.0])
ENGINE = Path(inspect.getfile(NotCaptured)).parents[1]  # the folder of all rooms


def test_what_is_private_to_torch_is_there():
    """`record` uses the first two, `aot` the third, `optimiser_state` the last; tried with torch 2.13."""
    assert callable(torch._C._create_graph_by_tracing) and callable(torch._C._create_function_from_graph)
    assert callable(torch._inductor.aot_compile) if hasattr(torch, "_inductor") else True
    assert callable(torch._foreach_copy_)


def test_the_graph_repeats_the_program_on_other_numbers_and_draws_the_same_noise():
    y = X.clone()
    outside = torch.tensor(2.0)

    def program():
        return [(y * outside + torch.randn(3)).sum(), torch.randn(()) * 0]

    found = record(program, [y])
    for value in (1.0, 5.0):
        outside.fill_(value)
        torch.manual_seed(3)
        wanted = program()[0]
        torch.manual_seed(3)
        assert found.run(y, *found.constants)[0].item() == pytest.approx(wanted.item())
    torch.manual_seed(3)
    other = found.run(y + 1, *found.constants)[0]
    assert other.item() == pytest.approx(wanted.item() + 15.0)


def test_a_draw_that_nothing_uses_moves_the_generator_all_the_same():
    y = X.clone()

    def program():
        torch.randn(7)
        torch.empty(5).normal_()
        return [(y + torch.randn(3)).sum()]

    found = record(program, [y])
    torch.manual_seed(1)
    wanted = program()[0]
    after = torch.get_rng_state()
    torch.manual_seed(1)
    assert found.run(y, *found.constants)[0] == wanted
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y, t: [t.add_(1).sum() + y.sum()], "in place"),
        (lambda y, t: [t[0].add_(1).sum() + y.sum()], "in place"),
        (lambda y, t: [t.view(3, 1).t().mul_(2).sum() + y.sum()], "in place"),
        (lambda y, t: [y.sum() * float(y[0])], "Python reads"),
    ],
)
def test_what_cannot_be_recorded_is_refused(change, words):
    y, t = X.clone(), torch.zeros(3)
    sparse = t
    with pytest.raises(NotCaptured, match=words):
        record(lambda: change(y, sparse), [y])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how else to ask for the memory of a process")
def test_captures_leave_nothing_behind():
    """Forty of a program whose numbers take 8 MB; `torch.jit.trace` kept as much of each."""

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

    def once():
        x = torch.ones(2**20)
        found = record(lambda: [(x.sin() * x.cos()).sum()], [x])
        assert found.run(x)[0].isfinite()

    for _ in range(5):
        once()
    before = resident()
    for _ in range(40):
        once()
    assert resident() - before < 60


def test_a_sparse_tensor_in_the_model_is_borne():
    adjacent = torch.eye(3).to_sparse()

    def model(y):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        observe(y, torch.sparse.mm(adjacent, z[:, None])[:, 0])

    def guide(y):
        pyro.sample("z", dist.Normal(param("loc", [0.0] * 3), 1.0).to_event(1))

    assert check_equal_runs(model, guide, (X,)).plan.compiled.startswith("eager")


HELPER = """
import torch


def branch(z):
    return z if z > 0 else -z  # here


def mistyped(z):
    return z.absent  # here


def wrong_shape(z):
    return z.expand(2) + torch.zeros(3)  # here


def item(z):
    return torch.func.vmap(lambda x: x * z.item())(torch.ones(2)).sum()  # here
"""


def helper_module(folder, name="helper"):
    """A file of the user's, imported."""
    folder.mkdir()
    (folder / f"{name}.py").write_text(HELPER)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line_of(function):
    """` at FILE:LINE: `text`` of the line of a helper that is marked."""
    lines, first = inspect.getsourcelines(function)
    (i,) = (i for i, line in enumerate(lines) if "# here" in line)
    return f" at helper.py:{first + i}: `{lines[i].strip()}`"


@pytest.mark.parametrize("name", ["branch", "mistyped", "wrong_shape", "item"])
def test_an_error_in_a_users_helper_file_names_its_line(name, tmp_path):
    function = getattr(helper_module(tmp_path / "helpers"), name)
    y = X.clone()
    with pytest.raises(NotCaptured) as found:
        record(lambda: [function(y.sum()).sum()], [y])
    assert str(found.value).endswith(line_of(function))


def test_a_value_that_a_library_reads_is_no_line_of_the_program():
    """torch's divergence of pushed distributions asks whether their transforms are equal."""

    def inverse(concentration):
        power = torch.distributions.transforms.PowerTransform(-torch.ones_like(concentration))
        return dist.TransformedDistribution(dist.Gamma(concentration, 1.0), [power])

    def model(y):
        observe(y, pyro.sample("z", inverse(torch.tensor(2.0))))

    def guide(y):
        pyro.sample("z", inverse(param("shape", 3.0, constraints.positive)))

    plan = check_equal_runs(model, guide, (X,)).plan.compiled
    assert re.search(r"in a library, called by the program at test_record\.py:\d+: `def model\(y\):`$", plan)


@pytest.mark.parametrize("name", ["branch", "item"])
def test_a_model_that_fails_in_a_helper_file_runs_eagerly_and_names_its_line(name, tmp_path):
    function = getattr(helper_module(tmp_path / "helpers"), name)

    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        observe(y, function(z))

    def guide(y):
        pyro.sample("z", dist.Normal(param("loc", 0.0), 1.0))

    plan = check_equal_runs(model, guide, (X,)).plan.compiled
    assert plan.startswith("eager: ") and plan.endswith(line_of(function))


def test_no_file_of_the_engine_torch_pyro_or_python_is_the_users():
    ours = sorted(ENGINE.rglob("*.py"))
    assert len({path.parent for path in ours}) > 10
    assert not any(is_the_users_file(str(path)) for path in ours)
    assert not any(is_the_users_file(module.__file__) for module in (torch, pyro, dist, proxy_tensor, inspect))


def test_a_folder_whose_name_begins_like_the_engines_is_the_users():
    assert is_the_users_file(f"{ENGINE}_helpers{os.sep}helper.py")
    assert is_the_users_file(__file__)


@pytest.mark.parametrize(
    "of", [torch.linalg.cholesky, torch.linalg.inv, lambda a: torch.linalg.solve(a, torch.ones(2))]
)
@pytest.mark.parametrize("batched", [False, True])
def test_a_matrix_without_a_factor_gives_nan_where_the_program_raises_an_error(of, batched):
    """The check that raises it is no operator with a result: the interpreter would drop it and go on with rubbish."""
    x = torch.ones(3)

    def program():
        def one(x):
            return of(torch.eye(2) * x).sum()

        return [torch.vmap(one)(x).sum() if batched else one(x[0]) + one(x[1]), 2 * x]

    recording = record(program, [x])
    code: dict = {"torch": torch, "device": torch.device, "nan": float("nan")}
    exec(recording.code, code)
    bad = torch.tensor([1.0, 0.0 if of is not torch.linalg.cholesky else -1.0, 2.0])
    for run in (recording.run, lambda *given: code["forward"](None, *given)):
        value, twice, *_ = run(x, *recording.constants)
        assert value.item() == program()[0].item() and torch.equal(twice, 2 * x)
        value, twice, *_ = run(bad, *recording.constants)
        assert value.isnan() and torch.equal(twice, 2 * bad)
    x.copy_(bad)
    with pytest.raises(torch.linalg.LinAlgError):
        program()
