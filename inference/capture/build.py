"""Builds the library of a compiled step from the C++ that Inductor generates: the kernels, their caller, and the loop.

Inductor's own build takes four fifths of the time for what a step does not need: a container of models, checks of
inputs, precompiled headers, programs that try the processor. Here the caller of the kernels keeps only its body, and
`loop.cpp` is appended to it; kernels are compiled with Inductor's own flags. `aot` loads this file by its path, in the
compiler's process. It uses private parts of torch (tried with 2.13).
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch._inductor.cpp_builder import CppBuilder, CppTorchDeviceOptions, get_cpp_compiler
from torch._inductor.cpu_vec_isa import pick_vec_isa

VECTORS = "-mavx2 -mfma -mf16c -mavx512f -mavx512dq -mavx512vl -mavx512bw".split()  # what Inductor may ask for
HEADERS = """#include <array>
#include <cstring>
#include <torch/csrc/inductor/aoti_runtime/utils.h>
#include <torch/csrc/inductor/aoti_runtime/scalar_to_tensor.h>
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
using namespace torch::aot_inductor;
"""
BODY = "void AOTInductorModel::run_impl("  # the caller of the kernels, a method
STEP = """namespace torch::aot_inductor {
struct Step {
  static constexpr int32_t device_idx_ = -1;
  void run_impl(AtenTensorHandle*, AtenTensorHandle*, void*, AOTIProxyExecutorHandle);
};
"""
# An operator without a function in C: its arguments and results go through torch's dispatcher.
CALL = "aoti_torch_proxy_executor_call_function("
CALLED = """template <typename T>
static StableIValue value(T x) {
  StableIValue bits = 0;
  std::memcpy(&bits, &x, sizeof x);
  return bits;
}
static StableIValue tensor(AtenTensorHandle x) {
  AtenTensorHandle copy = nullptr;
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_new_tensor_handle(x, &copy));
  return value(copy);
}
static void give(StableIValue from, AtenTensorHandle to) {
  AtenTensorHandle result;
  std::memcpy(&result, &from, sizeof result);
  RAIIAtenTensorHandle held(result);
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_assign_tensors(result, to));
}
static AOTITorchError credo_call(
    AOTIProxyExecutorHandle, int operation, int, const int64_t* ints, int, const AtenTensorHandle* tensors) {
  switch (operation) {
"""


def build(wrapper: str, kernels: str, operators: str | None, loop: str, folder: Path) -> Path:
    """Compiles Inductor's caller of kernels, its kernels and the loop, side by side, into FOLDER/step.so.

    operators: the operators that have no function in C, as JSON.
    """
    (folder / "caller.cpp").write_text(caller(wrapper, operators, loop))
    (folder / "kernels.cpp").write_text(kernels)
    builders = [_builder(folder, name, quick) for name, quick in (("caller", True), ("kernels", False))]
    running = [_started(builder) for builder in builders]
    said = [process.communicate()[0].strip() for process in running]
    for process, message in zip(running, said, strict=True):
        if process.returncode:
            raise RuntimeError(message or "the C++ compiler failed without a message")
    objects = [str(builder.get_target_file_path()) for builder in builders]
    options = CppTorchDeviceOptions(vec_isa=pick_vec_isa(), device_type="cpu", aot_mode=True)
    linker = CppBuilder(name="step", sources=objects, output_dir=str(folder), BuildOption=options)
    linker.build()
    for name in ("caller", "kernels"):
        for made in folder.glob(f"{name}.*"):
            made.unlink()
    return Path(linker.get_target_file_path())


def knows_vectors() -> bool:
    """Whether the C++ compiler knows the flags for a processor's vectors, so that none must be tried on a program."""
    command = [get_cpp_compiler(), *VECTORS, "-fsyntax-only", "-x", "c++", os.devnull]
    return not subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode


def caller(wrapper: str, operators: str | None, loop: str) -> str:
    """The C++ source of one step and of the loop over it, from the wrapper that Inductor generates for a model."""
    before, body = wrapper.split(BODY)
    start = before.index('} // extern "C"') + len('} // extern "C"')
    declarations = before[start : before.index("namespace torch::aot_inductor {", start)]
    body = re.sub(r"\n[^\n]*(__check_inputs_outputs|AOTInductorModelKernels&)[^\n]*", "", body)
    inputs = re.search(r"steal_from_raw_handles_to_raii_handles\(input_handles, (\d+)\)", body)
    if inputs is None:
        raise NotImplementedError("a compiled step without inputs")
    body = body.replace("DeviceStreamType", "void*").replace(CALL, "credo_call(")
    called = _called(json.loads(operators)["nodes"]) if operators else ""
    defined = f"#define INPUTS {inputs[1]}\n"
    return "".join((HEADERS, called, declarations, STEP, "void Step::run_impl(", body, "\n", defined, loop))


def _called(nodes: list[dict[str, Any]]) -> str:
    """The C++ of a function that calls the k-th of these operators."""
    cases = []
    for k, node in enumerate(nodes):
        name, overload = (*node["node"]["target"].split("."), "")[:2]
        schema = torch._C._get_schema(name, overload)
        given = {one["name"]: one["arg"] for one in node["node"]["inputs"]}
        counts = {"as_int": 0, "as_tensor": 0}
        values = [_value(given.get(one.name) or _default(one), one, counts, name) for one in schema.arguments]
        if any(list(one) != ["as_tensor"] for one in node["node"]["outputs"]):
            raise NotImplementedError(f"{name} returns more than tensors")
        results = range(len(schema.returns))
        room = ", ".join(values or ["0"]) + ", 0" * max(0, len(results) - len(values))
        gives = " ".join(f"give(stack[{i}], tensors[{counts['as_tensor'] + i}]);" for i in results)
        call = f'AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_call_dispatcher("{name}", "{overload}", stack));'
        cases.append(f"    case {k}: {{\n      StableIValue stack[] = {{{room}}};\n      {call}\n      {gives}\n    }}")
    return CALLED + " break;\n".join(cases) + " break;\n  }\n  return AOTI_TORCH_SUCCESS;\n}\n"


def _value(given: dict[str, Any], argument: Any, counts: dict[str, int], name: str) -> str:
    """The C++ of one argument of an operator. counts: of the tensors and whole numbers so far, passed one by one."""
    kind, value = next(iter(given.items()))
    if kind == "as_none":
        return "0"
    if argument.type.kind() != "OptionalType":
        if kind == "as_int" and "default" in given:
            return f"value<int64_t>({value})"
        if kind in counts:
            counts[kind] += 1
            k = counts[kind] - 1
            return f"tensor(tensors[{k}])" if kind == "as_tensor" else f"value<int64_t>(ints[{k}])"
        if kind == "as_bool":
            return f"value<bool>({str(value).lower()})"
        if kind == "as_float" and argument.type.kind() == "FloatType":
            return f"value<double>({value!r})"
    raise NotImplementedError(f"{name} has the argument {argument.name}, which is {kind[3:]}")


def _default(argument: Any) -> dict[str, Any]:
    """The default of an argument that a call leaves out, in the form of the JSON."""
    default = argument.default_value
    return {"as_none": True} if default is None else {f"as_{type(default).__name__}": default, "default": True}


def _builder(folder: Path, name: str, quick: bool) -> CppBuilder:
    options = CppTorchDeviceOptions(
        vec_isa=pick_vec_isa(), device_type="cpu", aot_mode=True, compile_only=True, min_optimize=quick
    )
    return CppBuilder(name=name, sources=str(folder / f"{name}.cpp"), output_dir=str(folder), BuildOption=options)


def _started(builder: CppBuilder) -> "subprocess.Popen[str]":
    command = shlex.split(builder.get_command_line())
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
