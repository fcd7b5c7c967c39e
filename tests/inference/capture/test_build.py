"""The C++ of a step that is compiled. Oracle: what torch's own operators return, called from Python."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from credo.inference.capture import build, compiler

LOOP = Path(build.__file__).with_name("loop.cpp")
TENSORS = ("a", "b", "out")


def wrapper(body, inputs):
    """As Inductor writes one: what is cut away stands before `extern "C"` ends and before the body."""
    steal = f"    auto inputs = steal_from_raw_handles_to_raii_handles(input_handles, {inputs});\n"
    return f"""#include <no_such_header.h>
extern "C" {{ not even C }} // extern "C"
CACHE_TORCH_DTYPE(float64);
namespace torch::aot_inductor {{ cut away }}
namespace torch::aot_inductor {{
void AOTInductorModel::run_impl(
    AtenTensorHandle* input_handles, AtenTensorHandle* output_handles,
    DeviceStreamType stream, AOTIProxyExecutorHandle proxy_executor) {{
    __check_inputs_outputs(input_handles, output_handles);
{steal}{body}}}
}}
"""


def operator(target, inputs, outputs=1):
    named = [{"name": name, "arg": arg, "kind": 1} for name, arg in inputs.items()]
    return {"node": {"target": target, "inputs": named, "outputs": [{"as_tensor": {}}] * outputs}}


SOLVE = operator(
    "aten::linalg_solve_triangular", {"self": {"as_tensor": {}}, "B": {"as_tensor": {}}, "upper": {"as_bool": False}}
)


def source(*nodes, inputs=2, body="    output_handles[0] = inputs[0].release();\n"):
    return build.caller(wrapper(body, inputs), json.dumps({"nodes": list(nodes)}), LOOP.read_text())


def test_the_source_keeps_the_body_and_the_loop_only():
    found = source()
    assert "no_such_header" not in found and "cut away" not in found and "__check_inputs_outputs" not in found
    assert "void Step::run_impl(" in found and "#define INPUTS 2" in found and "credo_steps" in found
    assert "CACHE_TORCH_DTYPE(float64);" in found


def test_an_argument_that_a_call_leaves_out_is_the_default():
    assert (
        "tensor(tensors[0]), tensor(tensors[1]), value<bool>(false), value<bool>(true), value<bool>(false)"
        in source(SOLVE)
    )


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (operator("aten::_sample_dirichlet", {"self": {"as_string": "x"}}), "self, which is string"),
        (operator("aten::_sample_dirichlet", {"self": {"as_tensor": {}}, "generator": {"as_tensor": {}}}), "generator"),
    ],
    ids=["string", "optional"],
)
def test_an_argument_that_cannot_be_written_in_c_is_named(node, said):
    with pytest.raises(NotImplementedError, match=said):
        source(node)


@pytest.mark.parametrize(("status", "known"), [(0, True), (1, False)])
def test_a_compiler_that_does_not_know_a_flag_is_found_out(status, known, monkeypatch, tmp_path):
    (tmp_path / "g++").write_text(f"#!/bin/sh\nexit {status}\n")
    (tmp_path / "g++").chmod(0o700)
    monkeypatch.setattr(build, "get_cpp_compiler", lambda: str(tmp_path / "g++"))
    assert build.knows_vectors() is known


@pytest.mark.slow
@pytest.mark.skipif(not compiler.has_compiler(), reason="no C++ compiler here")
def test_the_loop_runs_operators_by_torchs_dispatcher(tmp_path):
    """Three steps of sum(solve(A, b)) with a row of b each; the third is infinite, so the fourth is not taken."""
    body = """    AtenTensorHandle made;
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_new_uninitialized_tensor(&made));
    AtenTensorHandle tensors[] = {inputs[1].get(), inputs[0].get(), made};
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_proxy_executor_call_function(proxy_executor, 0, 0, nullptr, 3, tensors));
    output_handles[0] = made;
"""
    program = (
        "import sys, torch, runpy, pathlib\n"
        f"build = runpy.run_path({build.__file__!r})['build']\n"
        "text, nodes, loop, folder = map(pathlib.Path, sys.argv[1:])\n"
        "build(text.read_text(), '', nodes.read_text(), loop.read_text(), folder)\n"
    )
    (tmp_path / "wrapper").write_text(wrapper(body, 2))
    (tmp_path / "nodes").write_text(json.dumps({"nodes": [SOLVE]}))
    command = [sys.executable, "-c", program, *(str(tmp_path / name) for name in ("wrapper", "nodes")), str(LOOP)]
    subprocess.run([*command, str(tmp_path)], check=True, capture_output=True)
    matrix = torch.tensor([[4.0]], dtype=torch.float64)
    rows = torch.tensor([2.0, 8.0, torch.inf, 1.0], dtype=torch.float64).reshape(4, 1, 1)
    steps = compiler.opened(tmp_path / "step.so")
    assert steps([rows, matrix], 1, 4) == [0.5, 2.0, torch.inf]
    assert steps([rows[0], matrix], 0, 2) == [0.5, 0.5]
    with pytest.raises(RuntimeError, match="call failed"):
        steps([rows, torch.ones(3, 2)], 1, 1)
