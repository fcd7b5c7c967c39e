// A loop over one compiled step, below the step in the same library: Python is met once in many steps.
//
// A tensor comes as the address of what Python calls `t._cdata`: that is all that an at::Tensor holds.
#include <cmath>

static AtenTensorHandle copied(void** tensor) {
  AtenTensorHandle handle = nullptr;
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_new_tensor_handle(reinterpret_cast<AtenTensorHandle>(tensor), &handle));
  return handle;
}

// Row k of a tensor.
static AtenTensorHandle row(void** tensor, int64_t k) {
  auto handle = reinterpret_cast<AtenTensorHandle>(tensor);
  int64_t dim, offset, *sizes, *strides;
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dim(handle, &dim));
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(handle, &sizes));
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_strides(handle, &strides));
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_offset(handle, &offset));
  AtenTensorHandle found = nullptr;
  AOTI_TORCH_ERROR_CODE_CHECK(
      aoti_torch__reinterpret_tensor(handle, dim - 1, sizes + 1, strides + 1, offset + k * strides[0], &found));
  return found;
}

// Takes up to `count` steps and returns how many; -1 - k, with a message, if the step after k others failed. What a step reads and writes stays where it is
// in memory; step k gets row k of each of the first `stacked` inputs. The step after which the loss is not finite is
// the last. Unless `rates` is null, step k has the learning rate rates[k], which it finds in the clock.
extern "C" int64_t credo_steps(
    void** inputs, int64_t stacked, int64_t count, double* losses, char* message, int64_t room, double* clock,
    const double* rates) {
  const bool recording = aoti_torch_grad_mode_is_enabled();
  aoti_torch_grad_mode_set_enabled(false);
  int64_t taken = 0;
  try {
    while (taken < count) {
      if (rates != nullptr) clock[2] = rates[taken];
      AtenTensorHandle now[INPUTS], found[1];
      for (int64_t i = 0; i < INPUTS; i++) now[i] = i < stacked ? row(inputs + i, taken) : copied(inputs + i);
      torch::aot_inductor::Step().run_impl(now, found, nullptr, nullptr);  // `now` is its own from here on
      RAIIAtenTensorHandle loss(found[0]);
      losses[taken] = *static_cast<double*>(loss.data_ptr());
      if (!std::isfinite(losses[taken++])) break;
    }
  } catch (const std::exception& error) {
    std::string(error.what()).copy(message, room - 1);
    taken = -1 - taken;
  }
  aoti_torch_grad_mode_set_enabled(recording);
  return taken;
}
