// Images that shrink to one pixel: nothing to share between outputs but x, so that vectors run
// along the reduction and weights are read where they are, once.
#pragma once

#include "kernels/finish.hpp"
#include "kernels/strip_kernels.hpp"
#include "kernels/strip_lines.hpp"
#include "kernels/strip_output.hpp"
#include "kernels/strip_weights.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// What an output's sum consists of while parts of the reduction are multiplied: lanes of floats,
// always the same for the same step, or a number modulo 2**32.
constexpr int kDotVectors = 4;
constexpr Index kDotStep = kDotVectors * kLanes<float>;
static_assert(kDotPart % kDotStep == 0, "parts are whole steps");

template <class T>
struct DotSum {
    std::uint32_t value;
};
struct FloatSum {
    Vec<float> lanes[kDotVectors];
};
template <>
struct DotSum<Float16> : FloatSum {};
template <>
struct DotSum<Bfloat16> : FloatSum {};

// The window of the one pixel, steps [first, first + count) in the order (c, r, s).
template <class T>
void gather_window(const Problem& problem, const View<const T>& x, Index first, Index count,
                   T* to) {
    const Index taps = problem.r * problem.s;
    Index c = first / taps, r = first / problem.s % problem.r, s = first % problem.s;
    if (taps == 1 && problem.h == 1 && problem.w == 1) {
        for (Index i = 0; i < count; ++i) to[i] = x.data[(first + i) * x.stride[1]];
        return;
    }
    for (Index i = 0; i < count; ++i) {
        const Index row =
            source_index(r * problem.dilation_h - problem.pad_top, problem.h, problem.pad_mode);
        const Index column =
            source_index(s * problem.dilation_w - problem.pad_left, problem.w, problem.pad_mode);
        to[i] = row < 0 || column < 0
                    ? T{}
                    : x.data[c * x.stride[1] + row * x.stride[2] + column * x.stride[3]];
        if (++s < problem.s) continue;
        s = 0;
        if (++r < problem.r) continue;
        r = 0;
        ++c;
    }
}

template <class T>
void gather_kernel(const Problem& problem, const View<const T>& w, const T* kernel, Index first,
                   Index count, T* to) {
    const Index taps = problem.r * problem.s;
    for (Index i = 0; i < count; ++i) {
        const Index c = (first + i) / taps, tap = (first + i) % taps;
        to[i] =
            kernel[c * w.stride[1] + tap / problem.s * w.stride[2] + tap % problem.s * w.stride[3]];
    }
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
// Bytes, 64 at a time: x is gathered in its own sign and flipped here.
template <class T>
std::uint32_t dot_bytes(const T* x, const T* w, Index count) {
    const __m512i flips_x = _mm512_set1_epi8(char(Narrow<T>::flip_x));
    const __m512i flips_w = _mm512_set1_epi8(char(Narrow<T>::flip_w));
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i products = _mm512_setzero_si512(), shifted = products;
    for (Index i = 0; i < count; i += 64) {
        const Index left = least(64, count - i);
        const __mmask64 lanes = left == 64 ? ~__mmask64(0) : (__mmask64(1) << left) - 1;
        // lanes that are off hold zero as they are stored, whatever that stands for
        const __m512i a = _mm512_maskz_mov_epi8(
            lanes, _mm512_xor_si512(_mm512_maskz_loadu_epi8(lanes, x + i), flips_x));
        const __m512i b = _mm512_maskz_mov_epi8(
            lanes, _mm512_xor_si512(_mm512_maskz_loadu_epi8(lanes, w + i), flips_w));
        products = _mm512_dpbusd_epi32(products, a, b);
        if constexpr (Narrow<T>::zero_x != 0) {
            shifted = _mm512_dpbusd_epi32(shifted, ones, b);
        } else {
            shifted = _mm512_dpbusd_epi32(shifted, a, ones);
        }
    }
    const std::int32_t zero = Narrow<T>::zero_x + Narrow<T>::zero_w;
    const Words lanes = plus((Words)products, times((Words)shifted, zero));
    std::uint32_t sum = 0;
    for (int i = 0; i < kLanes<std::int32_t>; ++i) sum += std::uint32_t(lanes[i]);
    return sum;
}
#endif

template <class T>
void add_products(DotSum<T>& sum, const T* x, const T* w, Index count) {
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    if constexpr (kMembers<T> == 4) {
        sum.value += dot_bytes(x, w, count);
        return;
    }
#endif
    std::uint32_t total = 0;
    for (Index i = 0; i < count; ++i) {
        total += std::uint32_t(std::int32_t(x[i])) * std::uint32_t(std::int32_t(w[i]));
    }
    sum.value += total;
}

template <class T>
void add_float_products(FloatSum& sum, const T* x, const T* w, Index count) {
    constexpr int kL = kLanes<float>;
    Index i = 0;
    for (; i + kDotStep <= count; i += kDotStep) {
        for (int v = 0; v < kDotVectors; ++v) {
            sum.lanes[v] += widen(x + i + v * kL) * widen(w + i + v * kL);
        }
    }
    if (i == count) return;
    T last_x[kDotStep] = {}, last_w[kDotStep] = {};
    for (Index j = 0; i + j < count; ++j) {
        last_x[j] = x[i + j];
        last_w[j] = w[i + j];
    }
    for (int v = 0; v < kDotVectors; ++v) {
        sum.lanes[v] += widen(last_x + v * kL) * widen(last_w + v * kL);
    }
}
inline void add_products(DotSum<Float16>& sum, const Float16* x, const Float16* w, Index count) {
    add_float_products(sum, x, w, count);
}
inline void add_products(DotSum<Bfloat16>& sum, const Bfloat16* x, const Bfloat16* w, Index count) {
    add_float_products(sum, x, w, count);
}

template <class T>
void store_dot(const DotSum<T>& sum, std::int32_t* y, const std::int32_t* bias,
               Activation activation) {
    const Range range = range_of(activation);
    const auto v = std::int32_t(sum.value + (bias ? std::uint32_t(*bias) : 0));
    *y = v < range.low ? range.low : v > range.high ? range.high : v;
}

template <class T>
void store_float_dot(const FloatSum& sum, T* y, const T* bias, Activation activation) {
    constexpr int kL = kLanes<float>;
    const Vec<float> lanes = (sum.lanes[0] + sum.lanes[1]) + (sum.lanes[2] + sum.lanes[3]);
    float halves[kL];
    store(halves, lanes);
    for (int width = kL / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; ++i) halves[i] += halves[i + width];
    }
    Vec<float> v{};
    v[0] = bias ? halves[0] + widen_one(*bias) : halves[0];
    T rounded[kL];
    round_to(rounded, activate<float>(v, activation));
    *y = rounded[0];
}
inline void store_dot(const DotSum<Float16>& sum, Float16* y, const Float16* bias,
                      Activation activation) {
    store_float_dot(sum, y, bias, activation);
}
inline void store_dot(const DotSum<Bfloat16>& sum, Bfloat16* y, const Bfloat16* bias,
                      Activation activation) {
    store_float_dot(sum, y, bias, activation);
}

// kDotOutputs outputs of one image and group. Scratch: two parts of a reduction.
template <class T>
void dot_task(const StripJob<T>& job, Index index, char* scratch) {
    const Problem& problem = job.problem;
    const Operands<T>& arrays = job.arrays;
    const Index outputs = problem.k / problem.groups, channels = problem.c / problem.groups;
    const Index depth = channels * problem.r * problem.s;
    const Index blocks = ceil_div(outputs, kDotOutputs), block = index % blocks;
    const Index group = index / blocks % problem.groups, n = index / blocks / problem.groups;
    const Index first = group * outputs + block * kDotOutputs;
    const Index count = least(kDotOutputs, outputs - block * kDotOutputs);
    View<const T> x = arrays.x;
    x.data += n * x.stride[0] + group * channels * x.stride[1];
    T* const window = reinterpret_cast<T*>(scratch);
    T* const kernel = window + kDotPart;
    const bool dense = dense_kernels(arrays.w, problem);
    DotSum<T> sums[kDotOutputs] = {};
    for (Index step = 0; step < depth; step += kDotPart) {
        const Index steps = least(kDotPart, depth - step);
        gather_window(problem, x, step, steps, window);
        for (Index i = 0; i < count; ++i) {
            const T* weights = arrays.w.data + (first + i) * arrays.w.stride[0];
            if (dense) {
                weights += step;
            } else {
                gather_kernel(problem, arrays.w, weights, step, steps, kernel);
                weights = kernel;
            }
            add_products(sums[i], window, weights, steps);
        }
    }
    for (Index i = 0; i < count; ++i) {
        store_dot(sums[i],
                  arrays.y.data + n * arrays.y.stride[0] + (first + i) * arrays.y.stride[1],
                  arrays.bias ? arrays.bias + first + i : nullptr, problem.activation);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
