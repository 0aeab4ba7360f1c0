// Products of the few rows that a step of a stream has, which must not cost more than to read what they are
// multiplied with: linears with int8 weights, and the two products of attention over a ring.
//
// Shapes: R rows, K inputs, N outputs; B heads (of all rows of a batch), M queries.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t ROWS = 4;        // that are kept in registers together
constexpr int64_t OUTPUTS = 16;    // of a linear, likewise
constexpr int64_t AHEAD = 4096;    // bytes that are asked for before they are needed
constexpr int64_t COLUMNS = 64;    // of a product, likewise
constexpr int64_t LINE = 16;       // numbers that memory gives at once
constexpr int64_t MOST_INPUTS = 66'000; // of a linear, whose sums of products of bytes are within 32 bits
constexpr uint32_t bits_of_nan = 0x7fc00000;
constexpr int64_t WORTH = 1 << 16; // multiplications for which it pays to wake other threads

// Dot products of R rows of bytes with a block of OUTPUTS rows of weights, which lies in one piece: four
// bytes of each output in turn. `groups`: K / 4.
template <int R>
inline void multiply(const uint8_t* rows, const int8_t* block, int64_t groups, int32_t (*totals)[OUTPUTS]) {
#ifdef __AVX512VNNI__
  __m512i total[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    total[r] = _mm512_setzero_si512();
  for (int64_t g = 0; g < groups; ++g) {
    const __m512i weights = _mm512_loadu_si512(block + 64 * g);
    __builtin_prefetch(block + 64 * g + AHEAD);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      int32_t four;
      std::memcpy(&four, rows + 4 * (r * groups + g), 4);
      total[r] = _mm512_dpbusd_epi32(total[r], _mm512_set1_epi32(four), weights);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    _mm512_storeu_si512(totals[r], total[r]);
#else
  for (int r = 0; r < R; ++r) {
    int32_t total[OUTPUTS] = {};
    for (int64_t g = 0; g < groups; ++g)
      for (int n = 0; n < OUTPUTS; ++n)
        for (int j = 0; j < 4; ++j)
          total[n] += static_cast<int32_t>(rows[4 * (r * groups + g) + j]) *
              static_cast<int32_t>(block[64 * g + 4 * n + j]);
    std::copy(total, total + OUTPUTS, totals[r]);
  }
#endif
}

template <int R>
void int8_rows(
    const uint8_t* rows, const float* steps, const int32_t* zeros, const int8_t* weights, const float* scales,
    const int32_t* sums, float* y, int64_t groups, int64_t N) {
#pragma omp parallel for if (4 * R * groups * N > WORTH)
  for (int64_t first = 0; first < N; first += OUTPUTS) {
    int32_t totals[R][OUTPUTS];
    multiply<R>(rows, weights + 4 * first * groups, groups, totals);
    const int64_t last = std::min(first + OUTPUTS, N);
    for (int r = 0; r < R; ++r)
      for (int64_t n = first; n < last; ++n)
        y[r * N + n] =
            steps[r] * scales[n] * static_cast<float>(totals[r][n - first] - zeros[r] * sums[n]);
  }
}

struct Range {
  float least, most;  // with zero among them
  uint32_t bits;      // of the number that is furthest from zero
};

inline Range range_of(const float* row, int64_t K) {
  Range found = {0, 0, 0};
  int64_t k = 0;
#ifdef __AVX512VNNI__
  __m512 least = _mm512_setzero_ps(), most = least;
  __m512i bits = _mm512_setzero_si512();
  for (; k + 16 <= K; k += 16) {
    const __m512 now = _mm512_loadu_ps(row + k);
    least = _mm512_min_ps(least, now);
    most = _mm512_max_ps(most, now);
    bits = _mm512_max_epu32(bits, _mm512_castps_si512(_mm512_abs_ps(now)));
  }
  found = {_mm512_reduce_min_ps(least), _mm512_reduce_max_ps(most), _mm512_reduce_max_epu32(bits)};
#endif
  for (; k < K; ++k) {
    uint32_t now;
    std::memcpy(&now, row + k, 4);
    found.bits = std::max(found.bits, now & 0x7fffffff);
    found.least = std::min(found.least, row[k]);
    found.most = std::max(found.most, row[k]);
  }
  return found;
}

// Steps of a row from the least that a byte can be, `zero` of which are below zero; `per`: steps of one.
inline void round_row(const float* row, int64_t K, float per, int32_t zero, uint8_t* steps) {
  int64_t k = 0;
#ifdef __AVX512VNNI__
  for (; k + 16 <= K; k += 16) {
    __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(row + k), _mm512_set1_ps(per)));
    q = _mm512_max_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(zero)), _mm512_setzero_si512());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(steps + k), _mm512_cvtusepi32_epi8(q));
  }
#endif
  for (; k < K; ++k) {
    const int32_t q = static_cast<int32_t>(std::nearbyint(row[k] * per)) + zero;
    steps[k] = static_cast<uint8_t>(std::min(std::max(q, 0), 255));
  }
}

// y = x Wᵀ. Each row of x (…,K) is rounded to 256 steps between its least and largest number. W (N,K) is
// `weights` times `scales` (N), laid out as (N / 16, K / 4, 64), and `sums` (N) are those of its rows.
Tensor int8_linear(Tensor x, Tensor weights, Tensor scales, Tensor sums) {
  STD_TORCH_CHECK(
      x.dim() > 0 && x.scalar_type() == ScalarType::Float && x.is_contiguous(),
      "int8_linear: x must be fp32, of one dimension or more, and without gaps");
  STD_TORCH_CHECK(
      weights.dim() == 3 && weights.scalar_type() == ScalarType::Char && weights.is_contiguous() &&
          weights.size(2) == 4 * OUTPUTS,
      "int8_linear: weights must be int8 (N / ", OUTPUTS, ", K / 4, ", 4 * OUTPUTS, "), without gaps");
  const int64_t groups = weights.size(1), K = x.size(x.dim() - 1), N = scales.numel();
  STD_TORCH_CHECK(
      0 < K && K <= MOST_INPUTS && groups == (K + 3) / 4,
      "int8_linear: ", K, " inputs are given for weights of ", 4 * groups, ", at most ", MOST_INPUTS);
  STD_TORCH_CHECK(
      scales.scalar_type() == ScalarType::Float && scales.is_contiguous() &&
          sums.scalar_type() == ScalarType::Int && sums.is_contiguous() && sums.numel() == N &&
          weights.size(0) == (N + OUTPUTS - 1) / OUTPUTS,
      "int8_linear: scales must be fp32 and sums int32, one for each of the outputs of weights");
  const int64_t R = x.numel() / K;
  std::vector<int64_t> shape;
  for (int64_t d = 0; d + 1 < x.dim(); ++d)
    shape.push_back(x.size(d));
  shape.push_back(N);
  Tensor result = torch::stable::new_empty(x, shape);
  const float* from = static_cast<const float*>(x.const_data_ptr());
  const auto* w = static_cast<const int8_t*>(weights.const_data_ptr());
  const auto* scale = static_cast<const float*>(scales.const_data_ptr());
  const auto* sum = static_cast<const int32_t*>(sums.const_data_ptr());
  auto* y = static_cast<float*>(result.mutable_data_ptr());

  std::vector<uint8_t> rows(ROWS * 4 * groups);
  for (int64_t first = 0; first < R; first += ROWS) {
    const int64_t count = std::min(ROWS, R - first);
    float steps[ROWS];
    int32_t zeros[ROWS];
    for (int64_t r = 0; r < count; ++r) {
      const float* row = from + (first + r) * K;
      const Range range = range_of(row, K);
      // What is no number must not become one; compilers are told that there are only numbers.
      if (range.bits >= 0x7f800000) {
        std::memcpy(steps + r, &bits_of_nan, 4);
        zeros[r] = 0;
        std::fill_n(rows.data() + 4 * r * groups, K, 1);
        continue;
      }
      steps[r] = std::max(range.most - range.least, 1e-30f) / 255;
      const float per = 1 / steps[r];
      zeros[r] = static_cast<int32_t>(std::nearbyint(-range.least * per));
      round_row(row, K, per, zeros[r], rows.data() + 4 * r * groups);
    }
    float* to = y + first * N;
    switch (count) {
      case 1: int8_rows<1>(rows.data(), steps, zeros, w, scale, sum, to, groups, N); break;
      case 2: int8_rows<2>(rows.data(), steps, zeros, w, scale, sum, to, groups, N); break;
      case 3: int8_rows<3>(rows.data(), steps, zeros, w, scale, sum, to, groups, N); break;
      default: int8_rows<4>(rows.data(), steps, zeros, w, scale, sum, to, groups, N);
    }
  }
  return result;
}

// M rows times `width` columns, which lie side by side in b.
template <int M, bool WHOLE, bool APART>
inline void product_tile(
    const float* a, int64_t a_m, int64_t a_k, const float* b, int64_t b_k, const float* soon, float* y,
    int64_t K, int64_t N, int64_t width) {
  float total[M][COLUMNS] = {};
  const int64_t columns = WHOLE ? COLUMNS : width;
  for (int64_t k = 0; k < K; ++k) {
    for (int64_t j = 0; APART && j < COLUMNS; j += LINE)
      __builtin_prefetch(soon + k * COLUMNS + j);
    for (int m = 0; m < M; ++m) {
      const float times = a[m * a_m + k * a_k];
      for (int64_t j = 0; j < columns; ++j)
        total[m][j] = __builtin_fmaf(times, b[k * b_k + j], total[m][j]);
    }
  }
  for (int m = 0; m < M; ++m)
    for (int64_t j = 0; j < columns; ++j)
      y[m * N + j] = total[m][j];
}

template <int M>
inline void product_rows(
    const float* a, int64_t a_m, int64_t a_k, const float* b, int64_t b_k, const float* soon, float* y,
    int64_t K, int64_t N, int64_t width) {
  if (width < COLUMNS)
    product_tile<M, false, false>(a, a_m, a_k, b, b_k, soon, y, K, N, width);
  else if (soon)
    product_tile<M, true, true>(a, a_m, a_k, b, b_k, soon, y, K, N, width);
  else
    product_tile<M, true, false>(a, a_m, a_k, b, b_k, soon, y, K, N, width);
}

// y (B,M,N) = a (B,M,K) b (B,K,N), of any strides but that the columns of b lie side by side.
Tensor few_rows_product(Tensor a, Tensor b) {
  STD_TORCH_CHECK(
      a.scalar_type() == ScalarType::Float && b.scalar_type() == ScalarType::Float && a.dim() == 3 &&
          b.dim() == 3 && a.size(0) == b.size(0) && a.size(2) == b.size(1),
      "few_rows_product: takes fp32 (B,M,K) and (B,K,N) of the same B and K");
  STD_TORCH_CHECK(
      b.size(2) < 2 || b.stride(2) == 1, "few_rows_product: the columns of b must lie side by side");
  const int64_t B = a.size(0), M = a.size(1), K = a.size(2), N = b.size(2);
  Tensor result = torch::stable::new_empty(a, std::vector<int64_t>{B, M, N});
  const auto* left = static_cast<const float*>(a.const_data_ptr());
  const auto* right = static_cast<const float*>(b.const_data_ptr());
  auto* y = static_cast<float*>(result.mutable_data_ptr());
  const int64_t a_b = a.stride(0), a_m = a.stride(1), a_k = a.stride(2), b_b = b.stride(0), b_k = b.stride(1);
  const int64_t tiles = (N + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for collapse(2) if (B * M * K * N > WORTH)
  for (int64_t i = 0; i < B; ++i)
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t n = tile * COLUMNS, width = std::min(COLUMNS, N - n);
      // Where the rows of a tile lie apart, the matrix after this one is asked for as it lies in memory.
      const float* soon = tiles > 1 && i + 1 < B ? right + (i + 1) * b_b + tile * K * COLUMNS : nullptr;
      for (int64_t m = 0; m < M; m += ROWS) {
        const float* rows = left + i * a_b + m * a_m;
        const float* columns = right + i * b_b + n;
        float* to = y + (i * M + m) * N + n;
        switch (std::min(ROWS, M - m)) {
          case 1: product_rows<1>(rows, a_m, a_k, columns, b_k, soon, to, K, N, width); break;
          case 2: product_rows<2>(rows, a_m, a_k, columns, b_k, soon, to, K, N, width); break;
          case 3: product_rows<3>(rows, a_m, a_k, columns, b_k, soon, to, K, N, width); break;
          default: product_rows<4>(rows, a_m, a_k, columns, b_k, soon, to, K, N, width);
        }
      }
    }
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY(wavslm_inductor, library) {
  library.def("int8_linear(Tensor x, Tensor weights, Tensor scales, Tensor sums) -> Tensor");
  library.def("few_rows_product(Tensor a, Tensor b) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(wavslm_inductor, CPU, library) {
  library.impl("int8_linear", TORCH_BOX(&int8_linear));
  library.impl("few_rows_product", TORCH_BOX(&few_rows_product));
}
