// Adds up products of taps and pixels into the gradient of x; see conv/input_grad_columns.cpp.
// Lanes are neighbouring columns of one stride phase of gx, which meet neighbouring pixels of gy at
// the same taps; their sums stay in a register until all taps have been added.
#pragma once

#include "kernels/border.hpp"
#include "kernels/finish.hpp"
#include "kernels/kernels.hpp"
#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Taps that columns a, a + stride, ... of gx meet: column j of them meets pixel j + offset.
struct FoldColumns {
    Index count;
    Index tap[kMaxFoldTaps], offset[kMaxFoldTaps];
    Index least_offset, most_offset;

    void find(const Problem& problem, Index first) {
        count = 0;
        for (Index s = 0; s < problem.s; ++s) {
            const Index place = first + problem.pad_left - s * problem.dilation_w;
            if (modulo(place, problem.stride_w) != 0) continue;
            tap[count] = s;
            offset[count] = (place - modulo(place, problem.stride_w)) / problem.stride_w;
            ++count;
        }
        // taps reach back
        most_offset = count ? offset[0] : 0;
        least_offset = count ? offset[count - 1] : 0;
    }
};

// Pixels [first, first + lanes) of a row of `width`; those outside are zeros.
template <class T>
inline Vec<T> load_inside(const T* row, Index first, Index width) {
    const Index begin = least(most(-first, 0), kLanes<T>);
    const Index end = least(most(width - first, 0), kLanes<T>);
    if (begin == 0 && end == kLanes<T>) return load(row + first);
    if (begin >= end) return Vec<T>{};
    if constexpr (kHasMaskedLoad) {
        return masked_load(row + first, lane_mask<T>(int(begin), int(end)));
    }
    Vec<T> lanes{};
    for (Index lane = begin; lane < end; ++lane) lanes[lane] = row[first + lane];
    return lanes;
}

// What one row of one channel of gx adds up: for each of `count` kernel rows the pixels at its
// first tap; those of the next are `plane` further.
template <class T>
struct FoldRow {
    Index count, plane, width;
    const T* from[kMaxFoldTaps];

    Vec<T> sum(const FoldColumns& taps, Index column) const {
        Vec<T> sum{};
        const bool inside =
            column + taps.least_offset >= 0 && column + taps.most_offset + kLanes<T> <= width;
        for (Index r = 0; r < count; ++r) {
            for (Index i = 0; i < taps.count; ++i) {
                const T* row = from[r] + taps.tap[i] * plane;
                const Index first = column + taps.offset[i];
                sum += inside ? load(row + first) : load_inside(row, first, width);
            }
        }
        return sum;
    }
};

// Columns from stride * j on of a row of gx, `pitch` apart; sums[a] are those of phase a.
template <class T>
inline void store_phases(T* to, Index pitch, const Vec<T>* sums, Index stride, Index left) {
    constexpr int kL = kLanes<T>;
    if (pitch == 1 && stride == 1) return store_first(to, sums[0], least(left, kL));
    if (pitch == 1 && stride == 2) {
        store_first(to, zip_low<T>(sums[0], sums[1]), least(left, kL));
        if (left > kL) {
            store_first(to + kL, zip_high<T>(sums[0], sums[1]), least(left - kL, kL));
        }
        return;
    }
    for (Index a = 0; a < stride; ++a) {
        for (Index lane = 0; lane * stride + a < left && lane < kL; ++lane) {
            to[(lane * stride + a) * pitch] = sums[a][lane];
        }
    }
}

template <class T>
void fold_rows(const FoldJob<T>& job) {
    const Problem& a = job.problem;
    FoldColumns columns[kMaxFoldStride];
    for (Index phase = 0; phase < a.stride_w; ++phase) columns[phase].find(a, phase);
    const Index plane = job.rows * a.q;
    for (Index channel = 0; channel < job.channels; ++channel) {
        const Index c = job.channel + channel;
        const Vec<T> bias = job.bias ? splat(job.bias[c]) : Vec<T>{};
        for (Index h = job.begin; h < job.end; ++h) {
            FoldRow<T> row{0, plane, a.q, {}};
            for (Index r = 0; r < a.r; ++r) {
                const Index place = h + a.pad_top - r * a.dilation_h;
                const Index p = place / a.stride_h;
                if (place < 0 || place % a.stride_h != 0 || p >= a.p) continue;
                row.from[row.count++] =
                    job.products + (channel * a.r + r) * a.s * plane + (p - job.first) * a.q;
            }
            T* to = job.gx.data + c * job.gx.stride[1] + h * job.gx.stride[2];
            const Index pitch = job.gx.stride[3];
            for (Index j = 0; j * a.stride_w < a.w; j += kLanes<T>) {
                Vec<T> sums[kMaxFoldStride];
                for (Index phase = 0; phase < a.stride_w; ++phase) {
                    Vec<T> sum = row.sum(columns[phase], j);
                    if (job.bias) sum += bias;
                    sums[phase] = activate<T>(sum, a.activation);
                }
                const Index column = j * a.stride_w;
                store_phases(to + column * pitch, pitch, sums, a.stride_w, a.w - column);
            }
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
