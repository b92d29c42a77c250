// Attention of one query a row over its own cached positions: what decoding on a processor does most.
//
// Each (row, key/value head) is worked by one thread from its first position to its last, so that its bits depend on nothing else,
// and no more is read than the row holds. Keys and values are read once, in the order in which they lie: memory is what bounds it.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

using torch::stable::Tensor;

constexpr int64_t AHEAD = 8;  // positions that memory is asked for before they are needed

struct BFloat16 {
  uint16_t bits;
};
inline float widen(float x) { return x; }
inline float widen(BFloat16 x) { return std::bit_cast<float>(uint32_t(x.bits) << 16); }

template <class T>
void fetch(const T* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / sizeof(T)) __builtin_prefetch(from + i);
}

// exp of x <= 0 to 2 units in the last place: 2^n times the series of what is left. Unlike std::exp it is vectorised everywhere.
inline float exponential(float x) {
  const float bounded = std::max(x, -87.0f), n = (bounded * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  const float series = 1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r / 720)))));
  return series * std::bit_cast<float>((int32_t(n) + 127) << 23);
}

// Attention of q (width) over `count` keys and values (count, width), to out (width); scores (count) is scratch.
template <class T>
void attend(const float* q, const T* keys, const T* values, int64_t count, int64_t width, float* scores, float* out) {
  float most = -INFINITY, total = 0;
  for (int64_t n = 0; n < count; n++) {
    const T* key = keys + n * width;
    fetch(key + AHEAD * width, width);
    float score = 0;
#pragma omp simd reduction(+ : score)
    for (int64_t e = 0; e < width; e++) score += q[e] * widen(key[e]);
    scores[n] = score;
    most = std::max(most, score);
  }
  const float scale = 1 / std::sqrt(float(width));
#pragma omp simd reduction(+ : total)
  for (int64_t n = 0; n < count; n++) total += scores[n] = exponential(scale * (scores[n] - most));
  std::fill(out, out + width, 0.0f);
  for (int64_t n = 0; n < count; n++) {
    const T* value = values + n * width;
    fetch(value + AHEAD * width, width);
    const float weight = scores[n] / total;
#pragma omp simd
    for (int64_t e = 0; e < width; e++) out[e] += weight * widen(value[e]);
  }
}

template <class T>
void attend_all(const Tensor& q, const T* keys, const T* values, const Tensor& positions, int64_t window, const Tensor& out,
                int64_t kv_heads, int64_t reach) {
  const int64_t rows = q.size(0), group = q.size(1) / kv_heads, width = q.size(2);
  const float* queries = q.const_data_ptr<float>();
  const int64_t* last = positions.const_data_ptr<int64_t>();
  float* result = out.mutable_data_ptr<float>();
  torch::stable::parallel_for(0, rows * kv_heads, 1, [&](int64_t from, int64_t to) {
    std::vector<float> scores(reach);
    for (int64_t i = from; i < to; i++) {
      const int64_t end = last[i / kv_heads] + 1, start = window ? std::max<int64_t>(0, end - window) : 0;
      const int64_t offset = (i * reach + start) * width;
      for (int64_t head = i * group; head < (i + 1) * group; head++)
        attend(queries + head * width, keys + offset, values + offset, end - start, width, scores.data(), result + head * width);
    }
  });
}

// q (B, H, E) fp32; keys and values (at least B, K, L, E) fp32 or bf16; positions (B): row b sees the places 0 to positions[b], of these
// the last `window` if that is not 0. All contiguous. Returns (B, H, E) fp32.
Tensor attend_one(Tensor q, Tensor keys, Tensor values, Tensor positions, int64_t window) {
  Tensor out = torch::stable::empty_like(q);
  auto run = [&]<class T>(const T* k, const T* v) { attend_all(q, k, v, positions, window, out, keys.size(1), keys.size(2)); };
  const void *k = keys.const_data_ptr(), *v = values.const_data_ptr();
  if (keys.element_size() == sizeof(BFloat16)) {
    run(static_cast<const BFloat16*>(k), static_cast<const BFloat16*>(v));
  } else {
    run(static_cast<const float*>(k), static_cast<const float*>(v));
  }
  return out;
}

STABLE_TORCH_LIBRARY(chatling, library) {
  library.def("attend_one(Tensor q, Tensor keys, Tensor values, Tensor positions, int window) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(chatling, CPU, library) { library.impl("attend_one", TORCH_BOX(&attend_one)); }
