// The gradient of x where every group is one channel and a 3 x 3 kernel has stride 2: two rows and
// two columns of gx meet the same pixels of gy, and leave together.
//
// Counted from the padded image's first, row 2i meets row i of gy with the first row of taps and
// row i - 1 with the last, row 2i + 1 meets row i with the one between; columns likewise. Every sum
// begins with the bias and follows the taps, whichever function computes it; pixels of gy that do
// not exist are zeros and multiplied.
#pragma once

#include "kernels/border.hpp"
#include "kernels/copy.hpp"
#include "kernels/kernels.hpp"
#include "kernels/transpose.hpp"
#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// What one task computes: the pairs [begin, end) of rows of one image.
struct RowPairs {
    Index begin, end;
};

template <class T>
inline RowPairs row_pairs(const DepthwiseInputGradJob<T>& job, Index row_block) {
    const DepthwiseInputGradCut& cut = job.cut;
    const Index begin = cut.first + row_block * cut.pair_block;
    return {begin, least(begin + cut.pair_block, cut.first + cut.pairs)};
}

// Four sums of the same pixels: a pair of columns of each of a pair of rows. `pixels` are those of
// gy at rows i, i - 1 and columns j, j - 1.
template <class V>
struct PixelSums {
    V even[2], odd[2];  // rows, each of an even and an odd column

    __attribute__((always_inline)) PixelSums(const V (&w)[9], V bias, const V (&now)[2],
                                             const V (&before)[2], V now_odd, V before_odd)
        : even{bias, bias}, odd{bias, bias} {
        even[0] += w[0] * now[0];
        even[0] += w[2] * now[1];
        even[0] += w[6] * before[0];
        even[0] += w[8] * before[1];
        even[1] += w[1] * now_odd;
        even[1] += w[7] * before_odd;
        odd[0] += w[3] * now[0];
        odd[0] += w[5] * now[1];
        odd[1] += w[4] * now_odd;
    }
};

#if defined(FASTCONV_HAS_SHUFFLE)
template <class T, int... LANE>
inline void store_interleaved(T* to, Vec<T> a, Vec<T> b, Index count, LaneList<LANE...>) {
    constexpr int kL = kLanes<T>;
    store_first(to, (Vec<T>)__builtin_shufflevector(a, b, (LANE / 2 + LANE % 2 * kL)...),
                least(count, kL));
    if (count <= kL) return;
    store_first(to + kL,
                (Vec<T>)__builtin_shufflevector(a, b, (kL / 2 + LANE / 2 + LANE % 2 * kL)...),
                count - kL);
}
#else
template <class T, int... LANE>
inline void store_interleaved(T* to, Vec<T> a, Vec<T> b, Index count, LaneList<LANE...>) {
    for (Index i = 0; i < count; ++i) to[i] = i % 2 ? b[i / 2] : a[i / 2];
}
#endif

// The rows of one plane.
template <class T>
struct GradPlane {
    const Problem& problem;
    const T *gy, *w;
    Index gy_row, w_row, w_col;
    T bias;
    T* gx;
    Index gx_row;
};

// Lanes are pairs of columns of gx from an even column on: where the border has an odd width, the
// pair begins with an odd column of the padded image.
template <class T, bool ODD>
void plane_pairs(const GradPlane<T>& plane, const RowPairs& pairs) {
    constexpr Index kL = kLanes<T>;
    const Problem& problem = plane.problem;
    Vec<T> w[9];
    for (int i = 0; i < 9; ++i) w[i] = splat(plane.w[i / 3 * plane.w_row + i % 3 * plane.w_col]);
    const Vec<T> bias = splat(plane.bias);
    const Index shift = problem.pad_left / 2 + (ODD ? 1 : 0);
    for (Index column = 0; column < problem.w; column += 2 * kL) {
        const Index first = column / 2 + shift;
        const auto mask_at = [&](Index from) {
            const Inside inside = inside_lanes(from, 1, kL, problem.q);
            return lane_mask<T>(int(inside.begin), int(inside.end));
        };
        const Mask<T> now_mask = mask_at(first), last_mask = mask_at(first - 1);
        const Index count = least(2 * kL, problem.w - column);
        const auto load_row = [&](Vec<T>(&to)[2], Index i) {
            if (i >= 0 && i < problem.p) {
                const T* at = plane.gy + i * plane.gy_row + first;
                to[0] = masked_load(at, now_mask);
                to[1] = masked_load(at - 1, last_mask);
            } else {
                to[0] = to[1] = Vec<T>{};
            }
        };
        const auto store_row = [&](Index h, const Vec<T>(&row)[2]) {
            if (h < 0 || h >= problem.h) return;
            store_interleaved<T>(plane.gx + h * plane.gx_row + column, row[ODD ? 1 : 0],
                                 row[ODD ? 0 : 1], count, AllLanes<kLanes<T>>{});
        };
        Vec<T> before[2], now[2];
        load_row(before, pairs.begin - 1);
        for (Index i = pairs.begin; i < pairs.end; ++i) {
            load_row(now, i);
            const PixelSums<Vec<T>> sums(w, bias, now, before, now[ODD ? 1 : 0],
                                         before[ODD ? 1 : 0]);
            store_row(2 * i - problem.pad_top, sums.even);
            store_row(2 * i - problem.pad_top + 1, sums.odd);
            before[0] = now[0];
            before[1] = now[1];
        }
    }
}

// The same pixel by pixel, for views whose lanes lie apart.
template <class T>
void scattered_pairs(const DepthwiseInputGradJob<T>& job, const T* gy, T* gx, const T* w, T bias,
                     const RowPairs& pairs) {
    const Problem& problem = job.problem;
    const auto pixel = [&](Index i, Index j) {
        const bool real = i >= 0 && i < problem.p && j >= 0 && j < problem.q;
        return real ? gy[i * job.gy.stride[2] + j * job.gy.stride[3]] : T(0);
    };
    T taps[9];
    for (int i = 0; i < 9; ++i) taps[i] = w[i / 3 * job.w.stride[2] + i % 3 * job.w.stride[3]];
    for (Index i = pairs.begin; i < pairs.end; ++i) {
        for (Index j = problem.pad_left / 2; 2 * j - problem.pad_left < problem.w; ++j) {
            const T now[2] = {pixel(i, j), pixel(i, j - 1)};
            const T before[2] = {pixel(i - 1, j), pixel(i - 1, j - 1)};
            const PixelSums<T> sums(taps, bias, now, before, now[0], before[0]);
            for (Index place = 0; place < 4; ++place) {
                const Index h = 2 * i - problem.pad_top + place / 2;
                const Index column = 2 * j - problem.pad_left + place % 2;
                if (h < 0 || h >= problem.h || column < 0 || column >= problem.w) continue;
                gx[h * job.gx.stride[2] + column * job.gx.stride[3]] =
                    place < 2 ? sums.even[place] : sums.odd[place - 2];
            }
        }
    }
}

// One task where lanes are pixels: a block of rows of some planes.
template <class T>
void input_grad_planes(const DepthwiseInputGradJob<T>& job, Index task, T*) {
    const Problem& problem = job.problem;
    const DepthwiseInputGradCut& cut = job.cut;
    const RowPairs pairs = row_pairs(job, task % cut.row_blocks);
    const Index begin = task / cut.row_blocks * cut.planes;
    const Index end = least(begin + cut.planes, problem.n * problem.c);
    const bool lanes = kHasMaskedLoad && job.gy.stride[3] == 1 && job.gx.stride[3] == 1;
    for (Index plane = begin; plane < end; ++plane) {
        const Index n = plane / problem.c, c = plane % problem.c;
        const T* gy = job.gy.data + n * job.gy.stride[0] + c * job.gy.stride[1];
        T* gx = job.gx.data + n * job.gx.stride[0] + c * job.gx.stride[1];
        const T* w = job.w.data + c * job.w.stride[0];
        const T bias = job.bias ? job.bias[c] : T(0);
        if (!lanes) {
            scattered_pairs(job, gy, gx, w, bias, pairs);
            continue;
        }
        const GradPlane<T> from{problem,         gy,   w,  job.gy.stride[2], job.w.stride[2],
                                job.w.stride[3], bias, gx, job.gx.stride[2]};
        if (problem.pad_left % 2) {
            plane_pairs<T, true>(from, pairs);
        } else {
            plane_pairs<T, false>(from, pairs);
        }
    }
}

// A row of pixels, whose channels are neighbours; where it does not exist, one pixel that stands
// for all: then `column` is zero.
template <class T>
struct PixelRow {
    T* pixels;
    Index column;
};

template <class T>
struct PairRows {
    PixelRow<const T> now, before;  // of gy
    PixelRow<T> even, odd;          // of gx
};

// A pair of rows of gx for one vector of channels, or, if not WHOLE, for `count` of them.
template <class T, bool WHOLE>
__attribute__((noinline)) void pixel_pairs(const Problem& problem, const PairRows<T>& rows,
                                           const T* taps, Index pitch, Index count) {
    const auto read = [&](const T* from) __attribute__((always_inline)) {
        return WHOLE ? load(from) : load_first(from, count);
    };
    const auto write = [&](T* to, Vec<T> v) __attribute__((always_inline)) {
        if constexpr (WHOLE) {
            store(to, v);
        } else {
            store_first(to, v, count);
        }
    };
    Vec<T> w[9];
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) w[i] = read(taps + i * pitch);
    const Vec<T> bias = read(taps + 9 * pitch);
    const Index first = problem.pad_left / 2, left = problem.pad_left;
    const Index last = (problem.w - 1 + left) / 2 + 1;
    Vec<T> now[2], before[2];
    const auto pixel = [&](const PixelRow<const T>& row, Index j) {
        const bool real = j >= 0 && j < problem.q;
        return real ? read(row.pixels + j * row.column) : Vec<T>{};
    };
    now[0] = pixel(rows.now, first - 1);
    before[0] = pixel(rows.before, first - 1);
    const auto pair = [&](Index j, bool checked) __attribute__((always_inline)) {
        now[1] = now[0];
        before[1] = before[0];
        now[0] = checked ? pixel(rows.now, j) : read(rows.now.pixels + j * rows.now.column);
        before[0] =
            checked ? pixel(rows.before, j) : read(rows.before.pixels + j * rows.before.column);
        const PixelSums<Vec<T>> sums(w, bias, now, before, now[0], before[0]);
        const Index column = 2 * j - left;
        for (Index s = 0; s < 2; ++s) {
            if (checked && (column + s < 0 || column + s >= problem.w)) continue;
            write(rows.even.pixels + (column + s) * rows.even.column, sums.even[s]);
            write(rows.odd.pixels + (column + s) * rows.odd.column, sums.odd[s]);
        }
    };
    const Index begin = most(first, (left + 1) / 2);
    const Index end = most(begin, least(problem.q, (problem.w + left) / 2));
    Index j = first;
    for (; j < begin; ++j) pair(j, true);
    for (; j < end; ++j) pair(j, false);
    for (; j < last; ++j) pair(j, true);
}

// One task where lanes are channels: a block of rows of one image.
template <class T>
void input_grad_pixels(const DepthwiseInputGradJob<T>& job, Index task, T* scratch) {
    constexpr Index kL = kLanes<T>;
    const Problem& problem = job.problem;
    const RowPairs pairs = row_pairs(job, task % job.cut.row_blocks);
    const Index n = task / job.cut.row_blocks;
    T *zeros = scratch, *unused = scratch + kL;
    fill_zero(zeros, kL);
    for (Index i = pairs.begin; i < pairs.end; ++i) {
        const T* gy = job.gy.data + n * job.gy.stride[0];
        T* gx = job.gx.data + n * job.gx.stride[0];
        for (Index c = 0; c < problem.c; c += kL) {
            const auto gy_row = [&](Index p) {
                const bool real = p >= 0 && p < problem.p;
                return real ? PixelRow<const T>{gy + c + p * job.gy.stride[2], job.gy.stride[3]}
                            : PixelRow<const T>{zeros, 0};
            };
            const auto gx_row = [&](Index h) {
                const bool real = h >= 0 && h < problem.h;
                return real ? PixelRow<T>{gx + c + h * job.gx.stride[2], job.gx.stride[3]}
                            : PixelRow<T>{unused, 0};
            };
            const Index h = 2 * i - problem.pad_top, count = least(kL, problem.c - c);
            const PairRows<T> rows{gy_row(i), gy_row(i - 1), gx_row(h), gx_row(h + 1)};
            const auto function = count == kL ? pixel_pairs<T, true> : pixel_pairs<T, false>;
            function(problem, rows, job.taps + c, problem.c, count);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
