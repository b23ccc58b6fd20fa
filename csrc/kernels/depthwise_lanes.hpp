// Vectors of any width up to the instruction set's, and how a run of lanes is cut into them.
#pragma once

#include "kernels/copy.hpp"
#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// A vector of any width up to the instruction set's: rows of 7 pixels would leave more than half of
// 16 lanes idle.
template <class T, int BYTES>
struct Pack {
    typedef T Type __attribute__((vector_size(BYTES)));
    typedef T Unaligned __attribute__((vector_size(BYTES), aligned(alignof(T)), may_alias));
    typedef typename IntOf<T>::type Lane __attribute__((vector_size(BYTES)));
    using Element = T;
    static constexpr int kLanes = BYTES / int(sizeof(T));

    static Type load(const T* p) { return *reinterpret_cast<const Unaligned*>(p); }
    static void store(T* p, Type v) { *reinterpret_cast<Unaligned*>(p) = v; }
    static Type splat(T value) { return value - Type{}; }

    // Lanes first, first + 2, ... of two vectors after each other.
    static Type every_second(Type a, Type b, int first) {
        Lane lane;
        for (int i = 0; i < kLanes; ++i) lane[i] = 2 * i + first;
        return __builtin_shuffle(a, b, lane);
    }
    // Every lane moves down by one, and the first one of `b` comes in.
    static Type next_lane(Type a, Type b) {
        Lane lane;
        for (int i = 0; i < kLanes; ++i) lane[i] = i + 1;
        return __builtin_shuffle(a, b, lane);
    }

    // As fastconv's masked_load and store_first, for every width.
    static Type masked_load(const T* p, Mask<T> mask) {
#if defined(__AVX512F__)
        if constexpr (BYTES == 32 && sizeof(T) == 4) {
            return (Type)_mm256_maskz_loadu_ps((__mmask8)mask, p);
        } else if constexpr (BYTES == 32) {
            return (Type)_mm256_maskz_loadu_pd((__mmask8)mask, p);
        } else
#endif
            return FASTCONV_ISA::masked_load(p, mask);
    }
    static void store_first(T* p, Type v, Index count) {
        if (count >= kLanes) return store(p, v);
#if defined(__AVX512F__)
        const auto mask = lane_mask<T>(0, int(count));
        if constexpr (BYTES == 32 && sizeof(T) == 4) {
            _mm256_mask_storeu_ps(p, (__mmask8)mask, (__m256)v);
        } else if constexpr (BYTES == 32) {
            _mm256_mask_storeu_pd(p, (__mmask8)mask, (__m256d)v);
        } else {
            masked_store(p, v, mask);
        }
#else
        // masked stores of older instruction sets take tens of cycles on some processors
        alignas(BYTES) T buffer[kLanes];
        store(buffer, v);
        copy_short<T, kLanes>(p, buffer, count);
#endif
    }
};

// Narrowest vector that has functions of its own.
#if defined(__AVX512F__)
constexpr int kNarrowBytes = FASTCONV_VECTOR_BYTES / 2;
#else
constexpr int kNarrowBytes = FASTCONV_VECTOR_BYTES;
#endif
template <class T>
constexpr int kNarrowLanes = kNarrowBytes / int(sizeof(T));

// How the lanes of a strip are cut: full vectors, then a narrow one where that is enough.
template <class T>
struct StripCut {
    Index full;  // lanes computed by full vectors, the last of which may reach back
    bool narrow;
    Index narrow_first;

    // Pixels may be computed beyond the strip by a full vector, channels may not.
    StripCut(Index lanes, bool channels) {
        constexpr Index kL = kLanes<T>, kN = kNarrowLanes<T>;
        const Index rest = lanes % kL;
        narrow = kN < kL && ((rest > 0 && rest <= kN) || (channels && lanes < kL));
        full = !narrow ? lanes : lanes < kL ? 0 : lanes - rest;
        narrow_first = lanes < kN || full == 0 ? 0 : lanes - kN;
    }
    Index full_vectors() const { return (full + kLanes<T> - 1) / kLanes<T>; }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
