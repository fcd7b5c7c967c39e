// A loop over one compiled step: Python is met once in many steps.
//
// What a step reads and writes stays where it is in memory. Step k gets row k of each of the first `stacked` inputs.
#include <cmath>
#include <string>
#include <vector>

#include <ATen/ops/empty.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner_cpu.h>
#include <torch/library.h>

using torch::inductor::AOTIModelContainerRunnerCpu;

// The library at `path`, opened for good.
int64_t open_step(c10::string_view path) {
  return reinterpret_cast<int64_t>(new AOTIModelContainerRunnerCpu(std::string(path), 1));
}

// The losses, shape (count,) or shorter: the step after which the loss is not finite is the last.
at::Tensor steps(int64_t opened, at::TensorList inputs, int64_t stacked, int64_t count) {
  auto* runner = reinterpret_cast<AOTIModelContainerRunnerCpu*>(opened);
  std::vector<at::Tensor> now = inputs.vec();
  at::Tensor losses = at::empty({count}, at::kDouble);
  double* loss = losses.data_ptr<double>();
  for (int64_t k = 0; k < count; k++) {
    for (int64_t i = 0; i < stacked; i++) now[i] = inputs[i].select(0, k);
    loss[k] = *runner->run(now)[0].const_data_ptr<double>();
    if (!std::isfinite(loss[k])) return losses.narrow(0, 0, k + 1);
  }
  return losses;
}

TORCH_LIBRARY(credo, library) {
  library.def("open_step(str path) -> int", open_step);
  library.def("steps(int opened, Tensor[] inputs, int stacked, int count) -> Tensor", steps);
}
