// Packing pixels: the im2col gather. Border modes, strides, dilation, groups and layout are handled
// here and nowhere else; the image is never unfolded beyond one block of the product.
//
// Order of the reduction: (c, r, s), or (r, s, c) where the channels of a pixel are consecutive.
#pragma once

#include "kernels/border.hpp"
#include "kernels/copy.hpp"
#include "kernels/gemm_tile.hpp"
#include "kernels/kernels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// One image and one group of the problem: what a task packs from.
template <class T>
struct Slice {
    const Problem& problem;
    Index channels;  // per group
    View<const T> x;
    View<const T> w;
};

// A run of consecutive output pixels in one output row.
struct Run {
    Index lane, length;
    Index p, q;
};

// Splits `count` pixels from `first` on into runs; there are at most `count`.
inline int split_runs(Index first, Index count, Index width, Run* runs) {
    int n = 0;
    Index p = first / width, q = first % width;
    for (Index lane = 0; lane < count;) {
        const Index length = least(count - lane, width - q);
        runs[n++] = {lane, length, p, q};
        lane += length;
        p += 1;
        q = 0;
    }
    return n;
}

// One run seen through one kernel tap: the same geometry for every channel.
template <class T>
struct TapRun {
    const T* source;  // first channel's row, or null for a row of zeros
    Index column;     // source column of the first lane
    Index lane, length;
    Inside inside;
};

template <class T>
TapRun<T> tap_run(const Slice<T>& slice, const Run& run, Index tap, Index channel) {
    const Problem& problem = slice.problem;
    const Index r = tap / problem.s, s = tap % problem.s;
    const Index in_row = run.p * problem.stride_h - problem.pad_top + r * problem.dilation_h;
    const Index row = source_index(in_row, problem.h, problem.pad_mode);
    const Index column = run.q * problem.stride_w - problem.pad_left + s * problem.dilation_w;
    const View<const T>& x = slice.x;
    return {row < 0 ? nullptr : x.data + channel * x.stride[1] + row * x.stride[2], column,
            run.lane, run.length, inside_lanes(column, problem.stride_w, run.length, problem.w)};
}

// Gathers a run of one channel that may cross the border. `from` is the channel's row.
template <class T>
inline void gather_run(T* to, const T* from, const TapRun<T>& run, const Problem& problem,
                       Index pixel_pitch) {
    const Inside inside = run.inside;
    const Index step = problem.stride_w;
    if (problem.pad_mode == PadMode::kConstant) {
        fill_zero(to, inside.begin);
        fill_zero(to + inside.end, run.length - inside.end);
    } else {
        for (Index lane = 0; lane < run.length; ++lane) {
            if (lane == inside.begin) lane = inside.end;
            if (lane >= run.length) break;
            const Index column =
                source_index(run.column + lane * step, problem.w, problem.pad_mode);
            to[lane] = from[column * pixel_pitch];
        }
    }
    if (inside.end > inside.begin) {
        copy_strided(to + inside.begin, from + (run.column + inside.begin * step) * pixel_pitch,
                     step * pixel_pitch, inside.end - inside.begin);
    }
}

// One tap of the runs of a panel, for `channels` consecutive channels; their rows in the panel are
// `row_pitch` apart. What does not change between channels is decided once, outside of the loops.
template <class T>
void gather_runs(T* to, Index row_pitch, Index channels, const TapRun<T>* runs, int count,
                 const Slice<T>& slice) {
    const Index pixel_pitch = slice.x.stride[3], channel_pitch = slice.x.stride[1];
    for (int i = 0; i < count; ++i) {
        const TapRun<T>& run = runs[i];
        T* lane = to + run.lane;
        const bool whole = run.inside.begin == 0 && run.inside.end == run.length;
        if (!run.source) {
            for (Index c = 0; c < channels; ++c) fill_zero(lane + c * row_pitch, run.length);
        } else if (whole && slice.problem.stride_w * pixel_pitch == 1) {
            const T* from = run.source + run.column;
            for (Index c = 0; c < channels; ++c) {
                copy_run(lane + c * row_pitch, from + c * channel_pitch, run.length);
            }
        } else {
            for (Index c = 0; c < channels; ++c) {
                gather_run(lane + c * row_pitch, run.source + c * channel_pitch, run, slice.problem,
                           pixel_pitch);
            }
        }
    }
}

// The lanes of one vector that one run fills: lane i comes from from[STEP * i].
template <class T, int STEP>
struct Source {
    const T* from;
    Mask<T> mask[STEP];  // of the elements of each of STEP consecutive vectors
};

// Sources of the vector that begins at lane `first`; returns their number.
template <class T, int STEP>
int vector_sources(Source<T, STEP>* sources, const TapRun<T>* runs, int count, Index first) {
    int n = 0;
    for (int i = 0; i < count; ++i) {
        const TapRun<T>& run = runs[i];
        const Index begin = most(run.lane + run.inside.begin, first) - first;
        const Index end = least(run.lane + run.inside.end, first + kLanes<T>) - first;
        if (!run.source || begin >= end) continue;
        Source<T, STEP>& source = sources[n++];
        source.from = run.source + run.column + (first - run.lane) * STEP;
        for (int v = 0; v < STEP; ++v) {
            const Index element = Index(v) * kLanes<T>;
            const Index from = least(most(STEP * begin - element, 0), kLanes<T>);
            const Index to = least(most(STEP * (end - 1) + 1 - element, 0), kLanes<T>);
            source.mask[v] = lane_mask<T>(int(from), int(to));
        }
    }
    return n;
}

// Every second element of two vectors.
#if defined(FASTCONV_HAS_SHUFFLE)
template <class T, int... LANE>
inline Vec<T> even_elements(Vec<T> low, Vec<T> high, LaneList<LANE...>) {
    return __builtin_shufflevector(low, high, (2 * LANE)...);
}
#else
template <class T, class LANES>
inline Vec<T> even_elements(Vec<T> low, Vec<T> high, LANES) {
    Vec<T> even;
    for (int i = 0; i < kLanes<T>; ++i) {
        even[i] = 2 * i < kLanes<T> ? low[2 * i] : high[2 * i - kLanes<T>];
    }
    return even;
}
#endif

template <class T, int STEP>
inline Vec<T> load_source(const Source<T, STEP>& source, Index offset) {
    const T* from = source.from + offset;
    const Vec<T> low = masked_load(from, source.mask[0]);
    if constexpr (STEP == 1) return low;
    const Vec<T> high = masked_load(from + kLanes<T>, source.mask[STEP - 1]);
    return even_elements<T>(low, high, AllLanes<kLanes<T>>{});
}

// The same with pixels that are consecutive in memory, or every second, a whole vector at a time:
// every run contributes its lanes by masked loads, and what no run reads is the zero of the border.
template <int VECTORS, int STEP, class T>
void gather_vectors(T* to, Index row_pitch, Index channels, const TapRun<T>* runs, int count,
                    const Slice<T>& slice) {
    const Index pitch = slice.x.stride[1];
    const TapRun<T>& only = runs[0];
    if (STEP == 1 && count == 1 && only.source && only.inside.begin == 0 &&
        only.inside.end == VECTORS * kLanes<T>) {
        // vectors of one line together: planes may crowd the sets of the cache
        const T* from = only.source + only.column;
        for (Index c = 0; c < channels; ++c, from += pitch, to += row_pitch) {
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) {
                store(to + v * kLanes<T>, load(from + v * kLanes<T>));
            }
        }
        return;
    }
    for (int v = 0; v < VECTORS; ++v, to += kLanes<T>) {
        Source<T, STEP> sources[kLanes<T>];
        const int n = vector_sources(sources, runs, count, Index(v) * kLanes<T>);
        const Source<T, STEP> a = sources[0], b = sources[n > 1];
        T* row = to;
        Index offset = 0;
        if (n == 0) {
            for (Index c = 0; c < channels; ++c) store(to + c * row_pitch, Vec<T>{});
        } else if (n == 1) {
            for (Index c = 0; c < channels; ++c, row += row_pitch, offset += pitch) {
                store(row, load_source(a, offset));
            }
        } else if (n == 2) {
            for (Index c = 0; c < channels; ++c, row += row_pitch, offset += pitch) {
                store(row, bitwise_or<T>(load_source(a, offset), load_source(b, offset)));
            }
        } else {
            for (Index c = 0; c < channels; ++c, row += row_pitch, offset += pitch) {
                Vec<T> lanes = load_source(a, offset);
                for (int i = 1; i < n; ++i) {
                    lanes = bitwise_or<T>(lanes, load_source(sources[i], offset));
                }
                store(row, lanes);
            }
        }
    }
}

// Pixels [first, first + count) x reduction steps [depth0, depth0 + depth), a panel of VECTORS
// vectors a step; lanes beyond `count` are zero.
template <int VECTORS, class T>
void pack_pixel_panel(T* panel, const Slice<T>& slice, Index first, Index count, Index depth0,
                      Index depth) {
    constexpr int kC = VECTORS * kLanes<T>;
    const Problem& problem = slice.problem;
    const Index taps = problem.r * problem.s;
    Run runs[kC];
    const int run_count = split_runs(first, count, problem.q, runs);
    const Index spacing = problem.stride_w * slice.x.stride[3];
    const bool by_vector = kHasMaskedLoad && slice.x.stride[3] == 1 && spacing <= 2 &&
                           problem.pad_mode == PadMode::kConstant;
    // Reduction step c * taps + tap: steps `taps` apart are one tap of consecutive channels.
    for (Index step = 0; step < least(taps, depth); ++step) {
        const Index tap = (depth0 + step) % taps, channel = (depth0 + step) / taps;
        const Index channels = ceil_div(depth - step, taps);
        TapRun<T> tap_runs[kC];
        for (int i = 0; i < run_count; ++i) tap_runs[i] = tap_run(slice, runs[i], tap, channel);
        T* to = panel + step * kC;
        if (by_vector && spacing == 1) {
            gather_vectors<VECTORS, 1>(to, taps * kC, channels, tap_runs, run_count, slice);
        } else if (by_vector) {
            gather_vectors<VECTORS, 2>(to, taps * kC, channels, tap_runs, run_count, slice);
        } else {
            gather_runs(to, taps * kC, channels, tap_runs, run_count, slice);
        }
    }
    if (by_vector) return;  // lanes beyond `count` have been written as zeros
    if (count < kC) {
        for (Index d = 0; d < depth; ++d) fill_zero(panel + d * kC + count, kC - count);
    }
}

// Offsets of reduction steps [depth0, depth0 + depth) into an array with these strides along c, r
// and s.
struct StepStrides {
    Index c, r, s;
};

inline void step_offsets(Index* offset, Index depth0, Index depth, bool taps_first, Index channels,
                         Index taps_r, Index taps_s, StepStrides stride) {
    const Index taps = taps_r * taps_s;
    Index c = taps_first ? depth0 % channels : depth0 / taps;
    Index tap = taps_first ? depth0 / channels : depth0 % taps;
    Index r = tap / taps_s, s = tap % taps_s;
    for (Index d = 0; d < depth;) {
        const Index first = c * stride.c + r * stride.r + s * stride.s;
        if (taps_first) {
            const Index run = least(channels - c, depth - d);
            for (Index i = 0; i < run; ++i) offset[d + i] = first + i * stride.c;
            d += run;
            c = 0;
        } else {
            offset[d++] = first;
        }
        if (++s < taps_s) continue;
        s = 0;
        if (++r < taps_r) continue;
        r = 0;
        if (!taps_first) ++c;
    }
}

// Whether steps `offset` are consecutive in memory.
inline bool consecutive(const Index* offset, Index depth) {
    for (Index d = 1; d < depth; ++d) {
        if (offset[d] != offset[d - 1] + 1) return false;
    }
    return true;
}

// Whether all channels of all taps of one kernel row are consecutive, zeros of the border included.
template <class T>
inline bool consecutive_taps(const Slice<T>& slice) {
    const Problem& problem = slice.problem;
    return slice.x.stride[1] == 1 && slice.x.stride[3] == slice.channels &&
           problem.dilation_w == 1 && problem.pad_mode == PadMode::kConstant;
}

// Pixels as rows of kRowPitch, (r, s, c), where the taps of a kernel row are consecutive: each a
// run per kernel row.
template <class T>
void pack_pixel_rows_by_kernel_row(T* panel, const Slice<T>& slice, Index first, Index rows,
                                   Index depth0, Index depth) {
    const Problem& problem = slice.problem;
    const View<const T>& x = slice.x;
    const Index steps = problem.s * slice.channels, width = problem.w * slice.channels;
    for (Index d = 0; d < depth;) {
        const Index r = (depth0 + d) / steps, step = (depth0 + d) % steps;
        const Index run = least(depth - d, steps - step);
        Index p = first / problem.q, q = first % problem.q;
        for (Index i = 0; i < rows; ++i) {
            const Index row = p * problem.stride_h - problem.pad_top + r * problem.dilation_h;
            const Index from = (q * problem.stride_w - problem.pad_left) * slice.channels + step;
            T* to = panel + i * kRowPitch<T> + d;
            const bool outside = row < 0 || row >= problem.h;
            const Inside inside = outside ? Inside{0, 0} : inside_lanes(from, 1, run, width);
            fill_zero(to, inside.begin);
            if (inside.end > inside.begin) {
                copy_run(to + inside.begin, x.data + row * x.stride[2] + from + inside.begin,
                         inside.end - inside.begin);
            }
            fill_zero(to + inside.end, run - inside.end);
            if (++q == problem.q) {
                q = 0;
                ++p;
            }
        }
        d += run;
    }
}

// Pixels as rows of kRowPitch, (r, s, c): each a run of channels per kernel tap.
template <class T>
void pack_pixel_rows(T* panel, const Slice<T>& slice, Index first, Index rows, Index depth0,
                     Index depth) {
    if (consecutive_taps(slice)) {
        return pack_pixel_rows_by_kernel_row(panel, slice, first, rows, depth0, depth);
    }
    const Problem& problem = slice.problem;
    const View<const T>& x = slice.x;
    for (Index d = 0; d < depth;) {
        const Index tap = (depth0 + d) / slice.channels, c = (depth0 + d) % slice.channels;
        const Index run = least(depth - d, slice.channels - c);
        const Index tap_row = tap / problem.s * problem.dilation_h - problem.pad_top;
        const Index tap_column = tap % problem.s * problem.dilation_w - problem.pad_left;
        Index p = first / problem.q, q = first % problem.q;
        for (Index i = 0; i < rows; ++i) {
            const Index row =
                source_index(p * problem.stride_h + tap_row, problem.h, problem.pad_mode);
            const Index column =
                source_index(q * problem.stride_w + tap_column, problem.w, problem.pad_mode);
            T* to = panel + i * kRowPitch<T> + d;
            if (row < 0 || column < 0) {
                fill_zero(to, run);
            } else {
                copy_strided(to,
                             x.data + c * x.stride[1] + row * x.stride[2] + column * x.stride[3],
                             x.stride[1], run);
            }
            if (++q == problem.q) {
                q = 0;
                ++p;
            }
        }
        d += run;
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
