// Gradients of 3 x 3 depthwise kernels whose lanes are channels that are read in place.
#pragma once

#include "kernels/gemm_tile.hpp"
#include "kernels/pixel_boxes.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Sums of one tile of taps: the other registers hold a pixel of gy and one of x.
constexpr int kTapSums = kRows * kVectors;
// Nine sums, the nine vectors of x that they meet, one of gy: all of them stay in registers.
constexpr bool kHoldsNineTaps = kTapSums >= 2 * 9;

// One row of x as three taps read it, or zeros in its place: then `column` is zero.
template <class T>
struct TapRow {
    const T* pixels;
    Index column;  // from pixel to pixel
};

// What all calls of a task have in common. Views begin at the first channel of the vector.
template <class T>
struct GradVectors {
    const Problem& problem;
    const View<const T>& x;
    const View<const T>& gy;
    const T* zeros;  // a vector
    Index x_ahead, gy_ahead;
};

// The outputs [begin, end) of a row whose last STRIDE columns of taps lie inside of the image.
template <int STRIDE>
inline Inside newest_inside(const Problem& problem) {
    const Index first = 3 - STRIDE - problem.pad_left, last = 2 - problem.pad_left;
    const Index begin = first >= 0 ? 0 : least(problem.q, ceil_div(-first, STRIDE));
    const Index beyond = problem.w - 1 - last;
    const Index end = beyond < 0 ? 0 : least(problem.q, beyond / STRIDE + 1);
    return {begin, most(begin, end)};
}

// sums[tap] += gy * x over the rows of a box. A pixel of x is loaded once for each row of taps: it
// moves from column to column of the taps as the pixels of gy pass by. Border zeros are multiplied
// like any other number.
template <class T, int STRIDE>
__attribute__((noinline)) void add_nine_taps(T* sums, const GradVectors<T>& from, const Box& box) {
    constexpr Index kL = kLanes<T>;
    constexpr int kKept = 3 - STRIDE;  // columns that the next pixel of gy meets again
    const Problem& problem = from.problem;
    const Index row = from.x.stride[2], col = from.x.stride[3], gy_col = from.gy.stride[3];
    const Inside inside = newest_inside<STRIDE>(problem);
    Vec<T> acc[9];
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) acc[i] = load(sums + i * kL);
    for (Index n = box.n, p = box.p; n < box.n + box.images;
         p + 1 < box.p + box.rows ? ++p : (p = box.p, ++n)) {
        const T* gy = from.gy.data + n * from.gy.stride[0] + p * from.gy.stride[2];
        const T* image = from.x.data + n * from.x.stride[0];
        TapRow<T> rows[3];
        for (int r = 0; r < 3; ++r) {
            const Index h = p * STRIDE - problem.pad_top + r;
            const bool real = h >= 0 && h < problem.h;
            rows[r] = real ? TapRow<T>{image + h * row, col} : TapRow<T>{from.zeros, 0};
        }
        const auto pixel_at = [&](int r, Index column) {
            const bool real = column >= 0 && column < problem.w;
            return real ? load(rows[r].pixels + column * rows[r].column) : Vec<T>{};
        };
        Vec<T> tap[3][3];
        for (int r = 0; r < 3; ++r)
            for (int s = 0; s < kKept; ++s) tap[r][STRIDE + s] = pixel_at(r, s - problem.pad_left);
        const auto add = [&](auto newest) __attribute__((always_inline)) {
            const Vec<T> g = load(gy);
#pragma GCC unroll 3
            for (int r = 0; r < 3; ++r) {
#pragma GCC unroll 3
                for (int s = 0; s < kKept; ++s) tap[r][s] = tap[r][s + STRIDE];
#pragma GCC unroll 3
                for (int s = kKept; s < 3; ++s) tap[r][s] = newest(r, s);
#pragma GCC unroll 3
                for (int s = 0; s < 3; ++s) acc[3 * r + s] += g * tap[r][s];
            }
            gy += gy_col;
        };
        Index q = 0;
        const auto add_checked = [&](Index end) __attribute__((always_inline)) {
            for (; q < end; ++q) {
                const Index column = q * STRIDE - problem.pad_left;
                add([&](int r, int s) { return pixel_at(r, column + s); });
            }
        };
        add_checked(inside.begin);
        const T* x[3];
        Index step[3];
        for (int r = 0; r < 3; ++r) {
            x[r] = rows[r].pixels + (q * STRIDE - problem.pad_left) * rows[r].column;
            step[r] = STRIDE * rows[r].column;
        }
        for (; q < inside.end; ++q) {
            __builtin_prefetch(gy + from.gy_ahead, 0, 2);
#pragma GCC unroll 2
            for (int i = 0; i < STRIDE * STRIDE; ++i) {
                const int r = 2 - i / STRIDE, s = 2 - i % STRIDE;
                __builtin_prefetch(x[r] + s * col + from.x_ahead, 0, 2);
            }
            add([&](int r, int s)
                    __attribute__((always_inline)) { return load(x[r] + s * rows[r].column); });
            for (int r = 0; r < 3; ++r) x[r] += step[r];
        }
        add_checked(problem.q);
    }
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) store(sums + i * kL, acc[i]);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
