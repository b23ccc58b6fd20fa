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

// One output's sum while parts of the reduction are multiplied: lanes, always the same one for the
// same step.
template <class T>
using DotSum = Vec<WordOf<T>>;

// Vectors of floats that are summed side by side, and elements that words of one vector hold.
constexpr int kDotVectors = 4;
template <class T>
constexpr Index kDotStep = (kIsFloat<T> ? kDotVectors : kMembers<T>)*kLanes<std::int32_t>;
static_assert(kDotPart % kDotStep<Float16> == 0 && kDotPart % kDotStep<std::int8_t> == 0 &&
                  kDotOutputs % kLanes<float> == 0,
              "whole steps, and whole vectors of outputs");

// What is stored as zero.
template <class T>
constexpr T blank(std::uint32_t flip) {
    if constexpr (kIsFloat<T>) {
        return T{};
    } else {
        return T(flip);
    }
}

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

// The last elements of a reduction, and blanks: `room` is for kDotStep of them.
#if defined(__AVX512BW__)
template <class T>
inline const T* with_blanks(const T* from, Index count, std::uint32_t flip, T* room) {
    constexpr Index kVector = 64 / Index(sizeof(T));
    for (Index i = 0; i < kDotStep<T>; i += kVector) {
        const Index left = least(most(count - i, 0), kVector);
        const std::uint64_t lanes = left == 64 ? ~std::uint64_t(0) : (std::uint64_t(1) << left) - 1;
        __m512i v;
        if constexpr (sizeof(T) == 1) {
            v = _mm512_mask_loadu_epi8(_mm512_set1_epi8(char(flip)), lanes, from + i);
        } else {
            v = _mm512_mask_loadu_epi16(_mm512_set1_epi16(short(flip)), __mmask32(lanes), from + i);
        }
        _mm512_storeu_si512(room + i, v);
    }
    return room;
}
#else
template <class T>
inline const T* with_blanks(const T* from, Index count, std::uint32_t flip, T* room) {
    for (Index i = 0; i < kDotStep<T>; ++i) room[i] = blank<T>(flip);
    for (Index i = 0; i < count; ++i) room[i] = from[i];
    return room;
}
#endif

template <class T>
inline Words ones() {
    return splat(kMembers<T> == 4 ? std::int32_t(0x01010101) : std::int32_t(0x00010001));
}

// Adds x' * w' + zx * w' in every lane. `x` is whole steps, w ends with `count`.
template <class T>
inline void add_products(Words& sum, const T* x, const T* w, Index count) {
    constexpr int kM = kMembers<T>;
    constexpr Index kStep = kDotStep<T>;
    Words weights{};
    alignas(64) T room[kStep < 64 ? 64 : kStep];
    for (Index i = 0; i < count; i += kStep) {
        const T* from =
            i + kStep <= count ? w + i : with_blanks(w + i, count - i, Narrow<T>::flip_w, room);
        const Words factor = load_words(from, Narrow<T>::flip_w);
        sum = dot<kM>(sum, load_words(x + i, Narrow<T>::flip_x), factor);
        if constexpr (Narrow<T>::zero_x != 0) weights = dot<kM>(weights, ones<T>(), factor);
    }
    if constexpr (Narrow<T>::zero_x != 0) sum = plus(sum, times(weights, Narrow<T>::zero_x));
}

template <class T>
inline void add_products(Vec<float>& sum, const T* x, const T* w, Index count) {
    constexpr int kL = kLanes<float>;
    constexpr Index kStep = kDotStep<T>;
    Vec<float> lanes[kDotVectors] = {sum};
    alignas(64) T room[kStep < 64 ? 64 : kStep];
    for (Index i = 0; i < count; i += kStep) {
        const T* from = i + kStep <= count ? w + i : with_blanks(w + i, count - i, 0, room);
#pragma GCC unroll 4
        for (int v = 0; v < kDotVectors; ++v) {
            lanes[v] += widen(x + i + v * kL) * widen(from + v * kL);
        }
    }
    sum = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

// zw * (sum of x' + zx for every step): the same for all outputs.
template <class T>
std::uint32_t window_terms(const T* x, Index count) {
    if constexpr (kIsFloat<T>) {
        return 0;
    } else if constexpr (Narrow<T>::zero_w == 0) {
        return 0;
    } else {
        std::uint32_t sum = 0;  // of x itself, which is x' + zx
        for (Index i = 0; i < count; ++i) sum += std::uint32_t(std::int32_t(x[i]));
        return sum * std::uint32_t(Narrow<T>::zero_w);
    }
}

inline Words finish_sums(Words sums, const std::int32_t* bias, std::uint32_t terms,
                         Activation activation) {
    sums = plus(sums, splat(std::int32_t(terms)));
    if (bias) sums = plus(sums, load(bias));
    const Range range = range_of(activation);
    const Words low = splat(range.low), high = splat(range.high);
    sums = sums < low ? low : sums;
    return sums > high ? high : sums;
}
template <class T>
inline Vec<float> finish_sums(Vec<float> sums, const T* bias, std::uint32_t,
                              Activation activation) {
    return activate<float>(bias ? sums + widen(bias) : sums, activation);
}
inline void round_to(std::int32_t* to, Words v) {
    store(to, v);
}

// A vector of outputs from their lanes: the square is turned and its rows added up, first to last.
template <class W>
inline Vec<W> add_lanes(Vec<W>* sums) {
    constexpr int kL = kLanes<W>;
    Vec<W> square[kL];
    for (int i = 0; i < kL; ++i) square[i] = sums[i];
    transpose<W>(square);
    Vec<W> total = square[0];
    for (int i = 1; i < kL; ++i) total = plus(total, square[i]);
    return total;
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
    std::uint32_t terms = 0;
    for (Index step = 0; step < depth; step += kDotPart) {
        const Index steps = least(kDotPart, depth - step);
        gather_window(problem, x, step, steps, window);
        terms += window_terms(window, steps);
        const Index whole = ceil_div(steps, kDotStep<T>) * kDotStep<T>;
        for (Index i = steps; i < whole; ++i) window[i] = blank<T>(Narrow<T>::flip_x);
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
    ResultOf<T> bias[kDotOutputs] = {}, y[kDotOutputs];
    for (Index i = 0; arrays.bias && i < count; ++i) bias[i] = arrays.bias[first + i];
    for (Index i = 0; i < count; i += kLanes<WordOf<T>>) {
        const auto total = add_lanes<WordOf<T>>(sums + i);
        round_to(y + i,
                 finish_sums(total, arrays.bias ? bias + i : nullptr, terms, problem.activation));
    }
    ResultOf<T>* to = arrays.y.data + n * arrays.y.stride[0] + first * arrays.y.stride[1];
    for (Index i = 0; i < count; ++i) to[i * arrays.y.stride[1]] = y[i];
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
