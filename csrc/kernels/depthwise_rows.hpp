// Input rows of a depthwise convolution whose lanes are pixels: read in place by masks, or copied
// with their borders.
#pragma once

#include "kernels/depthwise_cut.hpp"
#include "kernels/pack.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
inline Vec<T> every_second(Vec<T> a, Vec<T> b, int first) {
    IntVec<T> lane;
    for (int i = 0; i < kLanes<T>; ++i) lane[i] = 2 * i + first;
    return __builtin_shuffle(a, b, lane);
}

// Even lanes, then odd ones.
template <class T>
inline Vec<T> halves(Vec<T> a) {
    constexpr int kL = kLanes<T>;
    IntVec<T> lane;
    for (int i = 0; i < kL; ++i) lane[i] = i < kL / 2 ? 2 * i : 2 * i + 1 - kL;
    return __builtin_shuffle(a, lane);
}

// What the tiles of all output channels have in common where lanes are pixels: one block of
// columns of the problem.
template <class E>
struct PlaneGeometry {
    using T = DepthwiseSum<E>;
    const Problem& problem;
    const DepthwiseCut& cut;
    Index q0, lanes;
    Index column;  // of x, for the first lane and tap
    Index planes;  // computed together
    bool direct;   // x is read in place
    bool pairs;    // and every vector of pixels is picked from two of x
    // A row in scratch: its columns, stride_w apart, in each of the phases.
    Index length, phases;
    Index copied_vectors;  // of one phase, or zero where elements are copied one by one
    StripCut<Copied<E>, false> strip_cut;
    Index offsets[kMostTaps];
    Inside inside[kMostTaps];  // of each phase
    Mask<T> masks[(kMostVectors + 1) * kMostTaps];
    Mask<T> copy_masks[2 * kMostVectors];  // of the vectors of a row to copy

    PlaneGeometry(const DepthwiseJob<E>& job, Index first, Index last)
        : problem(job.problem),
          cut(job.cut),
          q0(first),
          lanes(last - first),
          column(first * problem.stride_w - problem.pad_left),
          strip_cut(lanes) {
        const Index reach = (problem.s - 1) * problem.dilation_w;
        const Index step = problem.stride_w;
        length = lanes + reach / step;
        phases = least(step, reach + 1);
        for (Index phase = 0; phase < phases; ++phase) {
            inside[phase] = inside_lanes(column + phase, step, length, problem.w);
        }
        const bool framed = column >= 0 && column + (lanes - 1) * step + reach < problem.w;
        const Index pitch = job.arrays.x.stride[2] * Index(sizeof(E));
        // rows a multiple of a page apart would push each other out of the cache
        pairs = strip_shape<Copied<E>>(problem, false) == kPairsShape;
        direct = kHasMaskedLoad && kSame<E, T> && (step == 1 || pairs) &&
                 job.arrays.x.stride[3] == 1 &&
                 (framed || problem.pad_mode == PadMode::kConstant) && pitch % 4096 != 0 &&
                 strip_cut.full_vectors() <= kMostVectors;
        planes = direct ? group_planes(cut.slots * problem.w * Index(sizeof(T))) : cut.planes;
        copied_vectors = ceil_div(length, kLanes<T>);
        if (job.arrays.x.stride[3] != 1 || step > 2 || copied_vectors * step > 2 * kMostVectors) {
            copied_vectors = 0;
        }
        for (Index s = 0; s < problem.s; ++s) {
            const Index at = s * problem.dilation_w;
            offsets[s] = direct ? at : at % step * cut.phase_pitch + at / step;
        }
        if (!direct) {
            for (Index i = 0; i < copied_vectors * step; ++i) {
                copy_masks[i] = inside_mask(column + i * kLanes<T>, kLanes<T>);
            }
            return;
        }
        const Index vectors = strip_cut.full_vectors();
        for (Index v = 0; v < vectors; ++v) {
            const Index lane = least(v * kLanes<T>, most(strip_cut.full - kLanes<T>, 0));
            fill_masks(masks + v * problem.s, lane, kLanes<T>);
        }
        if (strip_cut.narrow) {
            fill_masks(masks + vectors * problem.s, strip_cut.narrow_first, kNarrowLanes<T>);
        }
    }

    void fill_masks(Mask<T>* to, Index lane, Index count) const {
        for (Index s = 0; s < problem.s; ++s) {
            to[s] = pairs ? inside_mask(column + 2 * lane + s * count, count)
                          : inside_mask(column + lane + s * problem.dilation_w, count);
        }
    }

    Mask<T> inside_mask(Index from, Index count) const {
        const Index begin = least(most(-from, 0), count);
        return lane_mask<T>(int(begin), int(most(least(problem.w - from, count), begin)));
    }
};

// Elements [column, column + lanes) of a row of `size`; those outside are zero and not touched.
template <class E, class T = DepthwiseSum<E>>
inline Vec<T> load_inside(const E* row, Index column, Index size, Mask<T> mask) {
    if constexpr (kHasMaskedLoad && kSame<E, T>) return masked_load(row + column, mask);
    using Widening = Pack<InPlace<E>, FASTCONV_VECTOR_BYTES>;
    if (column >= 0 && column + kLanes<T> <= size) return Widening::load(row + column);
    alignas(kLanes<T> * sizeof(E)) E inside[kLanes<T>] = {};
#if defined(__AVX512F__)
    if constexpr (sizeof(E) == 2) {
        const __m256i pixels = _mm256_maskz_loadu_epi16((__mmask16)mask, row + column);
        _mm256_store_si256(reinterpret_cast<__m256i*>(inside), pixels);
    } else {
        const __m128i pixels = _mm_maskz_loadu_epi8((__mmask16)mask, row + column);
        _mm_store_si128(reinterpret_cast<__m128i*>(inside), pixels);
    }
#else
    for (Index lane = most(-column, 0); lane < least(kLanes<T>, size - column); ++lane) {
        inside[lane] = row[column + lane];
    }
#endif
    return Widening::load(inside);
}

// Copies `rows` rows of pixels that are consecutive in memory, vector by vector; columns of
// stride_w 2 are copied apart, so that lanes are consecutive for every tap. A function of its own:
// its loops need all registers.
template <class E, class T = DepthwiseSum<E>>
__attribute__((noinline)) void copy_vectors(const PlaneGeometry<E>& geometry, T* to, Index to_pitch,
                                            const E* from, Index from_pitch, Index rows) {
    constexpr Index kL = kLanes<T>;
    const Index vectors = geometry.copied_vectors, pitch = geometry.cut.phase_pitch;
    const Index column = geometry.column, size = geometry.problem.w;
    const Mask<T>* const masks = geometry.copy_masks;
    if (geometry.problem.stride_w == 1) {
        for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
            for (Index i = 0; i < vectors; ++i) {
                store(to + i * kL, load_inside(from, column + i * kL, size, masks[i]));
            }
        }
    } else if (pitch < kL) {
        const Mask<T> mask = masks[0];
        for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
            store(to, halves<T>(load_inside(from, column, size, mask)));
        }
    } else {
        for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
            for (Index i = 0; i < vectors; ++i) {
                const Vec<T> a = load_inside(from, column + 2 * i * kL, size, masks[2 * i]);
                const Vec<T> b =
                    load_inside(from, column + (2 * i + 1) * kL, size, masks[2 * i + 1]);
                store(to + i * kL, every_second<T>(a, b, 0));
                store(to + pitch + i * kL, every_second<T>(a, b, 1));
            }
        }
    }
}

template <class E>
inline void widen_strided(DepthwiseSum<E>* to, const E* from, Index step, Index count) {
    if constexpr (kSame<E, DepthwiseSum<E>>) return copy_strided(to, from, step, count);
    for (Index i = 0; i < count; ++i) to[i] = widen_value(from[i * step]);
}

// The padded input rows that one tile of a group of channels reads. Consecutive tiles share rows,
// which are copied once.
template <class E>
struct CopiedRows {
    using T = DepthwiseSum<E>;
    const PlaneGeometry<E>& geometry;
    const View<const E>& x;
    const E* image;  // of the first channel
    Index planes;
    T* slots;
    Index slot_planes;  // pitch of planes
    const T* zeros;
    const T** rows;
    Index* steps;
    Index first = 0, count = 0, next_slot = 0;

    // Makes rows[0, span) the padded rows from `begin` on; begin never decreases.
    void advance(Index begin, Index span) {
        const Problem& problem = geometry.problem;
        const Index gone = least(begin - first, count);
        count -= gone;
        for (Index i = 0; i < count; ++i) {
            rows[i] = rows[i + gone];
            steps[i] = steps[i + gone];
        }
        first = begin;
        while (count < span) {
            const Index padded = begin + count - problem.pad_top;
            const Index row = source_index(padded, problem.h, problem.pad_mode);
            if (row < 0) {
                rows[count] = zeros;
                steps[count++] = 0;
                continue;
            }
            // rows that follow each other, in memory and in the ring of slots
            Index run = 1;
            if (row == padded) run = least(span - count, problem.h - row);
            run = least(run, geometry.cut.slots - next_slot);
            copy(row, run);
            for (Index i = 0; i < run; ++i) {
                rows[count] = slots + (next_slot + i) * geometry.cut.slot_pitch;
                steps[count++] = slot_planes;
            }
            next_slot += run;
            if (next_slot == geometry.cut.slots) next_slot = 0;
        }
    }

    // Copies rows of every plane into the slots from next_slot on.
    void copy(Index row, Index run) const {
        const Index pitch = geometry.cut.slot_pitch;
        for (Index plane = 0; plane < planes; ++plane) {
            const E* const from = image + plane * x.stride[1] + row * x.stride[2];
            T* const to = slots + plane * slot_planes + next_slot * pitch;
            if (geometry.copied_vectors > 0) {
                copy_vectors(geometry, to, pitch, from, x.stride[2], run);
            } else {
                for (Index i = 0; i < run; ++i) gather(to + i * pitch, from + i * x.stride[2]);
            }
            if (geometry.problem.pad_mode == PadMode::kConstant) continue;
            for (Index i = 0; i < run; ++i) fill_border(to + i * pitch, from + i * x.stride[2]);
        }
    }

    void gather(T* to, const E* from) const {
        const Index step = geometry.problem.stride_w;
        for (Index phase = 0; phase < geometry.phases; ++phase, to += geometry.cut.phase_pitch) {
            const Inside inside = geometry.inside[phase];
            fill_zero(to, inside.begin);
            fill_zero(to + inside.end, geometry.length - inside.end);
            widen_strided(to + inside.begin,
                          from + (geometry.column + phase + inside.begin * step) * x.stride[3],
                          step * x.stride[3], inside.end - inside.begin);
        }
    }

    void fill_border(T* to, const E* from) const {
        const Problem& problem = geometry.problem;
        for (Index phase = 0; phase < geometry.phases; ++phase, to += geometry.cut.phase_pitch) {
            const Inside inside = geometry.inside[phase];
            for (Index i = 0; i < geometry.length; ++i) {
                if (i == inside.begin) i = inside.end;
                if (i >= geometry.length) break;
                const Index at = geometry.column + phase + i * problem.stride_w;
                to[i] =
                    widen_value(from[source_index(at, problem.w, problem.pad_mode) * x.stride[3]]);
            }
        }
    }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
