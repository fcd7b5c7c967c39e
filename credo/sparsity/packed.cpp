// A packed network as one function: linear layers, convolutions, pooling and activations, one after the other.
//
// Numbers lie as [unit][row of the batch], W rows at a time: with W = 16 one weight meets 16 rows in one instruction;
// with W = 1, as for all images, the inner loop runs over the weights of an output, or over the places of an image.
// `credo/sparsity/packed.py` writes the program and says the same in torch.

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

enum Kind { LINEAR, CONVOLUTION, POOL, RELU, TANH, SIGMOID };

struct Operation {  // the fields of packed.py
  int32_t kind, inputs, outputs, kernel_y, kernel_x, pad_y, pad_x, stride_y, stride_x, rows_at, bias_at;
};

struct Weights {
  const int32_t* rows;
  const uint16_t* columns;
  const float* values;
  const float* biases;
};

struct Size {
  int64_t channels, height, width;
};

template <int W>
void linear(const Operation& op, const Weights& all, const float* in, float* out) {
  const int32_t* rows = all.rows + op.rows_at;
  for (int32_t o = 0; o < op.outputs; ++o) {
    const float bias = op.bias_at < 0 ? 0.0f : all.biases[op.bias_at + o];
    if (W == 1) {
      float sums[4] = {bias, 0.0f, 0.0f, 0.0f};  // four, since each sum waits for its last addition
      int32_t k = rows[o];
      for (; k + 4 <= rows[o + 1]; k += 4)
        for (int i = 0; i < 4; ++i) sums[i] += all.values[k + i] * in[all.columns[k + i]];
      for (; k < rows[o + 1]; ++k) sums[0] += all.values[k] * in[all.columns[k]];
      out[o] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    } else {
      float sum[W];
      for (int r = 0; r < W; ++r) sum[r] = bias;
      for (int32_t k = rows[o]; k < rows[o + 1]; ++k) {
        const float value = all.values[k];
        const float* from = in + int64_t(all.columns[k]) * W;
#pragma omp simd
        for (int r = 0; r < W; ++r) sum[r] += value * from[r];
      }
      for (int r = 0; r < W; ++r) out[int64_t(o) * W + r] = sum[r];
    }
  }
}

template <int W>
Size convolution(const Operation& op, const Weights& all, const float* in, float* out, Size s) {
  const int64_t height = s.height + 2 * op.pad_y - op.kernel_y + 1, width = s.width + 2 * op.pad_x - op.kernel_x + 1;
  const int32_t* rows = all.rows + op.rows_at;
  const int64_t taps = int64_t(op.kernel_y) * op.kernel_x;
  for (int32_t o = 0; o < op.outputs; ++o) {
    float* plane = out + o * height * width * W;
    const float bias = op.bias_at < 0 ? 0.0f : all.biases[op.bias_at + o];
    for (int64_t i = 0; i < height * width * W; ++i) plane[i] = bias;
    for (int32_t k = rows[o]; k < rows[o + 1]; ++k) {
      const int64_t column = all.columns[k], channel = column / taps;
      const int64_t dy = column % taps / op.kernel_x - op.pad_y, dx = column % op.kernel_x - op.pad_x;
      const int64_t left = dx < 0 ? -dx : 0, right = s.width - dx < width ? s.width - dx : width;
      const float value = all.values[k];
      for (int64_t y = dy < 0 ? -dy : 0; y < height && y + dy < s.height; ++y) {
        float* to = plane + (y * width + left) * W;
        const float* from = in + ((channel * s.height + y + dy) * s.width + left + dx) * W;
#pragma omp simd
        for (int64_t i = 0; i < (right - left) * W; ++i) to[i] += value * from[i];
      }
    }
  }
  return {op.outputs, height, width};
}

template <int W>
Size pool(const Operation& op, const float* in, float* out, Size s) {
  const int64_t height = (s.height - op.kernel_y) / op.stride_y + 1, width = (s.width - op.kernel_x) / op.stride_x + 1;
  for (int64_t c = 0; c < s.channels; ++c)
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x) {
        const float* from = in + ((c * s.height + y * op.stride_y) * s.width + x * op.stride_x) * W;
        float* to = out + ((c * height + y) * width + x) * W;
        for (int r = 0; r < W; ++r) to[r] = from[r];
        for (int32_t ky = 0; ky < op.kernel_y; ++ky)
          for (int32_t kx = 0; kx < op.kernel_x; ++kx)
            for (int r = 0; r < W; ++r) {
              const float other = from[(ky * s.width + kx) * W + r];
              if (other > to[r] || other != other) to[r] = other;  // NaN stays, as in torch
            }
      }
  return {s.channels, height, width};
}

// in: W rows, [unit][row]. Returns where the outputs are, one of the two buffers.
template <int W>
const float* network(
    const Operation* ops, int64_t count, const Weights& all, const float* in, float* one, float* other, Size s) {
  for (int64_t i = 0; i < count; ++i) {
    const Operation& op = ops[i];
    const int64_t size = s.channels * s.height * s.width * W;
    switch (op.kind) {
      case LINEAR: linear<W>(op, all, in, one); s = {op.outputs, 1, 1}; break;
      case CONVOLUTION: s = convolution<W>(op, all, in, one, s); break;
      case POOL: s = pool<W>(op, in, one, s); break;
      case RELU: for (int64_t j = 0; j < size; ++j) one[j] = in[j] < 0 ? 0.0f : in[j]; break;
      case TANH: for (int64_t j = 0; j < size; ++j) one[j] = std::tanh(in[j]); break;
      case SIGMOID: for (int64_t j = 0; j < size; ++j) one[j] = 1.0f / (1.0f + std::exp(-in[j])); break;
    }
    in = one;
    std::swap(one, other);
  }
  return in;
}

}  // namespace

struct Form {  // what the shape of x leads to: operations, rows of the batch, sizes, numbers of the largest layer
  int64_t count, batch, channels, height, width, outputs, largest;
};

// x: batch rows of channels * height * width numbers. y: batch rows of `outputs`.
extern "C" void credo_packed(
    const Form* form, const Operation* ops, const int32_t* rows, const uint16_t* columns, const float* values,
    const float* biases, const float* x, float* y) {
  constexpr int W = 16;
  const auto [count, batch, channels, height, width, outputs, largest] = *form;
  const Weights all = {rows, columns, values, biases};
  const Size size = {channels, height, width};
  const int64_t inputs = channels * height * width;
  thread_local std::vector<float> room;
  if (int64_t(room.size()) < 3 * largest * W) room.resize(3 * largest * W);
  float *block = room.data(), *one = block + largest * W, *other = one + largest * W;
  int64_t row = 0;
  const bool images = ops[0].kind == CONVOLUTION;  // 16 rows of them do not fit a core's cache
  for (; !images && row + W <= batch; row += W) {
    for (int64_t j = 0; j < inputs; ++j)
      for (int r = 0; r < W; ++r) block[j * W + r] = x[(row + r) * inputs + j];
    const float* out = network<W>(ops, count, all, block, one, other, size);
    for (int r = 0; r < W; ++r)
      for (int64_t j = 0; j < outputs; ++j) y[(row + r) * outputs + j] = out[j * W + r];
  }
  for (; row < batch; ++row) {
    const float* out = network<1>(ops, count, all, x + row * inputs, one, other, size);
    for (int64_t j = 0; j < outputs; ++j) y[row * outputs + j] = out[j];
  }
}
