// A pretend accelerator: PyTorch's PrivateUse1 device whose memory is host memory. Every operator runs the CPU's kernel
// on tensors that share that memory; before it does, tensors of two devices are refused as CUDA refuses them.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <functional>
#include <unordered_set>

namespace {
using at::IntArrayRef;
using at::Tensor;
using c10::DataPtr;
using c10::Device;
using c10::DispatchKeySet;
using c10::IValue;
using c10::Storage;
using std::optional;
constexpr auto PRETEND = c10::DeviceType::PrivateUse1;
const Device HERE(PRETEND, 0), CPU(c10::kCPU);
std::unordered_set<std::string>
    lenient;  // operators that leave the check to TensorIterator: a 0-dim CPU tensor may mix
bool capturing = false, counting = false;
bool separate = false;  // whether the device draws from a generator of its own, as CUDA does, or from the CPU's
size_t largest = SIZE_MAX;  // bytes of a tensor; a larger one is out of memory
std::map<std::string, int64_t> calls;

void fits(size_t n) {
  TORCH_CHECK_WITH(OutOfMemoryError, n <= largest, "pretend out of memory. Tried to allocate ", n, " bytes");
}

struct Memory : c10::Allocator {
  DataPtr allocate(size_t n) override {
    fits(n);
    void* p = c10::alloc_cpu(n);
    return {p, p, &c10::free_cpu, HERE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, size_t n) const override { default_copy_data(to, from, n); }
} memory;
REGISTER_ALLOCATOR(PRETEND, &memory)

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = PRETEND;
  c10::DeviceType type() const override { return PRETEND; }
  Device exchangeDevice(Device) const override { return HERE; }
  Device getDevice() const override { return HERE; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  c10::Stream getStream(Device) const override { return c10::Stream(c10::Stream::DEFAULT, HERE); }
  c10::Stream exchangeStream(c10::Stream) const override { return c10::Stream(c10::Stream::DEFAULT, HERE); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    *event = nullptr;
  }
  void block(void*, const c10::Stream&) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Generator : at::CPUGeneratorImpl {
  explicit Generator(uint64_t seed) : CPUGeneratorImpl(seed) {
    device_ = HERE;
    key_set_ = DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
};
at::Generator lent(const at::Generator& g) {  // a CPU kernel takes a CPU generator only: one in the same state
  auto cpu = at::make_generator<at::CPUGeneratorImpl>(0);
  cpu.set_state(g.get_state());
  return cpu;
}
at::Generator& own_generator() {
  static auto g = at::make_generator<Generator>(c10::default_rng_seed_val);
  return g;
}

// ---- the same memory on both sides ---------------------------------------------------------------------------------
DataPtr shared(const Storage& storage, Device device) {
  auto* keep = new Storage(storage);
  return {keep->mutable_data(), keep, [](void* p) { delete static_cast<Storage*>(p); }, device};
}
Tensor like(const Tensor& t, Storage storage, c10::DispatchKey key) {
  auto out = at::detail::make_tensor<at::TensorImpl>(std::move(storage), DispatchKeySet(key), t.dtype());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  if (t.unsafeGetTensorImpl()->is_wrapped_number()) out.unsafeGetTensorImpl()->set_wrapped_number(true);
  return out;
}
bool is_here(const Tensor& t) { return t.defined() && t.device().type() == PRETEND; }
Tensor host(const Tensor& t) {
  if (!is_here(t)) return t;
  const auto& s = t.storage();
  return like(t, Storage(Storage::use_byte_size_t(), s.nbytes(), shared(s, CPU), c10::GetCPUAllocator(), true),
              c10::DispatchKey::CPU);
}
Tensor pretend(const Tensor& t) {
  if (!t.defined() || !t.has_storage() || t.device().type() != c10::kCPU) return t;
  const auto& s = t.storage();
  fits(s.nbytes());
  return like(t, Storage(Storage::use_byte_size_t(), s.nbytes(), shared(s, HERE), &memory, true),
              c10::DispatchKey::PrivateUse1);
}
void settle(const Tensor& own, const Tensor& worked) {  // a CPU kernel may have resized what it wrote into
  auto s = own.storage();
  if (worked.storage().data() != s.data()) {
    s.set_data_ptr_noswap(shared(worked.storage(), HERE));
    s.set_nbytes(worked.storage().nbytes());
  }
  if (own.sizes() != worked.sizes() || own.strides() != worked.strides() ||
      own.storage_offset() != worked.storage_offset())
    own.unsafeGetTensorImpl()->set_sizes_and_strides(worked.sizes(), worked.strides(), worked.storage_offset());
}

// ---- a graph of calls, as CUDA records one: recording computes nothing, a replay works on the same memory
// -------------
struct Graph {
  std::vector<std::function<void()>> calls;
  std::vector<std::pair<Tensor, Tensor>> undo;
};
std::vector<Graph> graphs;
void note(std::function<void()> call) {
  if (capturing) graphs.back().calls.push_back(std::move(call));
}
void written(const Tensor& worked) {
  if (capturing) graphs.back().undo.emplace_back(worked, worked.clone());
}
void refill(const IValue& to, const IValue& from) {
  if (to.isTensor()) {
    if (to.toTensor().data_ptr() != from.toTensor().data_ptr()) to.toTensor().copy_(from.toTensor());
  } else if (to.isTensorList())
    for (size_t i = 0; i < to.toTensorVector().size(); ++i) refill(to.toTensorVector()[i], from.toTensorVector()[i]);
}

// ---- the check -----------------------------------------------------------------------------------------------------
struct Given {
  const c10::Argument* argument;
  Tensor own, worked;
};
void refuse(const std::string& name, const std::vector<Given>& given) {
  static const std::unordered_set<std::string> anywhere{"aten::copy_", "aten::_copy_from",
                                                        "aten::_copy_from_and_resize", "aten::_foreach_copy_"};
  if (anywhere.count(name.substr(0, name.find('.')))) return;
  const bool index = name.rfind("aten::index.", 0) == 0 || name.find("index_put") != std::string::npos;
  optional<Device> common;
  for (const auto& g : given)
    if (is_here(g.own)) common = HERE;
  for (const auto& g : given) {
    if (!g.own.defined() || !common || g.own.device() == *common) continue;
    const bool written = g.argument->alias_info() && g.argument->alias_info()->isWrite();
    const bool scalar = g.own.dim() == 0 && !written;
    TORCH_CHECK(!(index && g.argument->name() == "self"),
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)");
    if (lenient.count(name) ? scalar || (index && g.argument->name() == "indices")
                            : g.own.unsafeGetTensorImpl()->is_wrapped_number())
      continue;
    TORCH_CHECK(!lenient.count(name), "Expected all tensors to be on the same device, but found at least two devices, ",
                *common, " and ", g.own.device(), "!");
    TORCH_CHECK(false, "Expected all tensors to be on the same device, but got ", g.argument->name(), " is on ",
                g.own.device(), ", different from other tensors on ", *common,
                " (when checking argument in method wrapper_pretend__", name.substr(6, name.find('.') - 6), ")");
  }
}
void not_while_capturing(bool waits) {
  TORCH_CHECK(!(capturing && waits), "pretend error: operation not permitted when stream is capturing");
}

// ---- every operator ------------------------------------------------------------------------------------------------
void fallback(const c10::OperatorHandle& op, DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto& name = schema.overload_name().empty() ? schema.name() : schema.name() + "." + schema.overload_name();
  if (counting) ++calls[name];
  const auto& arguments = schema.arguments();
  const auto start = stack->size() - arguments.size();
  std::vector<Given> given;
  bool to_here = false;
  at::Generator asked, inner;
  auto take = [&](const c10::Argument& a, const Tensor& t) {
    given.push_back({&a, t, host(t)});
    to_here |= is_here(t);
    return given.back().worked;
  };
  for (size_t i = 0; i < arguments.size(); ++i) {
    IValue& v = (*stack)[start + i];
    const auto& a = arguments[i];
    if (v.isTensor())
      v = take(a, v.toTensor());
    else if (v.isTensorList()) {
      c10::List<Tensor> out;
      for (const Tensor& t : v.toTensorVector()) out.push_back(take(a, t));
      v = out;
    } else if (v.isOptionalTensorList()) {
      c10::List<optional<Tensor>> out;
      for (const optional<Tensor> t : v.toOptionalTensorList()) out.push_back(t ? optional<Tensor>(take(a, *t)) : t);
      v = out;
    } else if (v.isDevice() && v.toDevice().type() == PRETEND) {
      v = CPU;
      to_here = true;
    } else if (v.isGenerator() && v.toGenerator().device().type() == PRETEND) {
      asked = v.toGenerator();
      v = inner = lent(asked);
    } else if (v.isGenerator()) {
      TORCH_CHECK(!to_here, "Expected a 'pretend' device type for generator but found 'cpu'");
    } else if (separate && v.isNone() && to_here && a.type()->str() == "Generator?") {
      asked = own_generator();
      v = inner = lent(asked);
    }
  }
  refuse(name, given);
  not_while_capturing(name == "aten::_local_scalar_dense" || name == "aten::nonzero" || name == "aten::equal" ||
                      name == "aten::masked_select");
  torch::jit::Stack inputs;
  if (capturing) {
    inputs.assign(stack->begin() + start, stack->end());
    for (auto& v : inputs)
      if (v.isTensor() && v.toTensor().defined() && v.toTensor().dim() == 0)
        for (const auto& g : given)
          if (g.worked.is_same(v.toTensor()) && !is_here(g.own)) {
            v = g.own.clone();
            break;
          }
    for (const auto& g : given)
      if (is_here(g.own) && g.argument->alias_info() && g.argument->alias_info()->isWrite()) written(g.worked);
  }
  const DispatchKeySet cpu(c10::DispatchKey::CPU);
  op.redispatchBoxed(cpu, stack);
  if (capturing)
    note([op, inputs, asked, inner, cpu, results = torch::jit::Stack(stack->begin() + start, stack->end())]() mutable {
      auto again = inputs;
      if (asked.defined()) inner.set_state(asked.get_state());
      op.redispatchBoxed(cpu, &again);
      if (asked.defined()) asked.set_state(inner.get_state());
      for (size_t k = 0; k < results.size(); ++k) refill(results[k], again[k]);
    });
  if (asked.defined()) asked.set_state(inner.get_state());
  for (const auto& g : given)
    if (is_here(g.own) && g.argument->alias_info() && g.argument->alias_info()->isWrite()) settle(g.own, g.worked);
  const auto& returns = schema.returns();
  const auto first = stack->size() - returns.size();
  for (size_t k = 0; k < returns.size(); ++k) {
    IValue& v = (*stack)[first + k];
    const Given* of = nullptr;
    if (const auto* alias = returns[k].alias_info())
      for (const auto& g : given)
        if (!of && g.argument->alias_info() && g.argument->alias_info()->beforeSets() == alias->beforeSets()) of = &g;
    auto out = [&](const Tensor& t) -> Tensor {
      if (of && returns[k].alias_info()->isWrite()) return of->own;
      if (of && is_here(of->own) && t.storage().data() == of->own.storage().data())
        return like(t, of->own.storage(), c10::DispatchKey::PrivateUse1);
      return to_here ? pretend(t) : t;
    };
    if (v.isTensor())
      v = out(v.toTensor());
    else if (v.isTensorList()) {
      c10::List<Tensor> all;
      for (const Tensor& t : v.toTensorVector()) all.push_back(out(t));
      v = all;
    }
  }
}

// ---- what has no CPU kernel to run ---------------------------------------------------------------------------------
const DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);
at::ScalarType type(optional<at::ScalarType> dtype) {
  return dtype.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
}
Tensor empty(IntArrayRef size, optional<at::ScalarType> dtype, optional<at::Layout>, optional<Device>, optional<bool>,
             optional<at::MemoryFormat> format) {
  return Tensor(at::detail::empty_generic(size, &memory, KEYS, type(dtype), format));
}
Tensor empty_strided(IntArrayRef size, IntArrayRef stride, optional<at::ScalarType> dtype, optional<at::Layout>,
                     optional<Device>, optional<bool>) {
  return Tensor(at::detail::empty_strided_generic(size, stride, &memory, KEYS, type(dtype)));
}
Tensor zeros(IntArrayRef size, optional<at::ScalarType> dtype, optional<at::Layout>, optional<Device>, optional<bool>) {
  return empty(size, dtype, {}, {}, {}, {}).zero_();  // _efficientzerotensor, which has no memory on the CPU
}
Tensor copy_from(const Tensor& self, const Tensor& to, bool) {
  not_while_capturing(self.device() != to.device());
  const Tensor a = host(self), b = host(to);
  if (capturing) written(b);
  b.copy_(a);
  note([a, b] { b.copy_(a); });
  return to;
}
Tensor copy_from_and_resize(const Tensor& self, const Tensor& to) {
  to.resize_(self.sizes());
  return copy_from(self, to, false);
}
Tensor& set_at(Tensor& self, Storage source, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  impl->set_storage_offset(offset);
  stride.empty() && !size.empty() ? impl->set_sizes_contiguous(size) : impl->set_sizes_and_strides(size, stride);
  return self;
}
Tensor& set_storage(Tensor& self, Storage source) {
  const auto n = static_cast<int64_t>(source.nbytes() / self.dtype().itemsize());
  return set_at(self, std::move(source), 0, {n}, {});
}
Tensor& set_tensor(Tensor& self, const Tensor& source) {
  return set_at(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}
Tensor conv(const Tensor& x, const Tensor& w, const optional<Tensor>& b, IntArrayRef stride, IntArrayRef padding,
            IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups) {
  for (const Tensor& t : {w, b.value_or(x)})
    TORCH_CHECK(is_here(t) && is_here(x),
                "Expected all tensors to be on the same device, but found at least two devices, pretend:0 and cpu!");
  auto run = [a = host(x), v = host(w), c = b ? optional<Tensor>(host(*b)) : b, stride = stride.vec(),
              padding = padding.vec(), dilation = dilation.vec(), transposed, output_padding = output_padding.vec(),
              groups] {
    return at::convolution(a, v, c, stride, padding, dilation, transposed, output_padding, groups);
  };
  const Tensor out = run();
  note([run, out] { out.copy_(run()); });
  return pretend(out);
}
std::tuple<Tensor, Tensor, Tensor> conv_backward(const Tensor& g, const Tensor& x, const Tensor& w, IntArrayRef stride,
                                                 IntArrayRef padding, IntArrayRef dilation, bool transposed,
                                                 IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  const std::vector<int64_t> bias{transposed ? w.size(1) * groups : w.size(0)};
  auto [a, b, c] = at::convolution_backward(host(g), host(x), host(w), bias, stride, padding, dilation, transposed,
                                            output_padding, groups, mask);
  return {pretend(a), pretend(b), pretend(c)};
}

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  Device getDeviceFromPtr(void*) const override { return HERE; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return own_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<Generator>(c10::default_rng_seed_val);
  }
  void resizePrivateUse1Bytes(const Storage& storage, size_t n) const override {
    auto more = memory.allocate(n);
    std::memcpy(more.get(), storage.data(), std::min(n, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(more));
    storage.unsafeGetStorageImpl()->set_nbytes(n);
  }
};
const bool hooked = (at::RegisterPrivateUse1HooksInterface(new Hooks()), true);
}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_efficientzerotensor", zeros);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("set_.source_Storage_storage_offset", set_at);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("convolution_overrideable", conv);
  m.impl("convolution_backward_overrideable", conv_backward);
}
TORCH_LIBRARY(pretend_device, m) {
  m.def("lenient(str[] names) -> ()",
        [](std::vector<std::string> names) { lenient.insert(names.begin(), names.end()); });
  m.def("begin() -> int", [] {
    graphs.emplace_back();
    capturing = true;
    return static_cast<int64_t>(graphs.size()) - 1;
  });
  m.def("end() -> ()", [] {
    capturing = false;
    auto& undo = graphs.back().undo;
    for (; !undo.empty(); undo.pop_back())
      if (undo.back().first.sizes() == undo.back().second.sizes())
        undo.back().first.copy_(undo.back().second);  // else a fresh out=
  });
  m.def("replay(int graph) -> ()", [](int64_t graph) {
    c10::InferenceMode guard(false);
    at::AutoDispatchBelowADInplaceOrView below;
    for (auto& call : graphs[graph].calls) call();
  });
  m.def("limit(int bytes) -> ()", [](int64_t bytes) { largest = bytes < 0 ? SIZE_MAX : bytes; });
  m.def("separate(bool on) -> ()", [](bool on) { separate = on; });
  m.def("seed(int seed) -> ()", [](int64_t seed) { own_generator().set_current_seed(seed); });
  m.def("state() -> Tensor", [] { return own_generator().get_state(); });
  m.def("set_state(Tensor state) -> ()", [](const Tensor& state) { own_generator().set_state(state); });
  m.def("counting(bool on) -> ()", [](bool on) { counting = on; });
  m.def("calls() -> Dict(str, int)", [] {
    c10::Dict<std::string, int64_t> out;
    for (auto& c : calls) out.insert(c.first, c.second);
    calls.clear();
    return out;
  });
}
