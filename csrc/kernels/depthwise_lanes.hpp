// Vectors of any width up to the instruction set's, of sums that pixels are widened to and results
// rounded from, and how a run of lanes is cut into them.
#pragma once

#include "kernels/convert.hpp"
#include "kernels/copy.hpp"
#include "kernels/depthwise_numbers.hpp"
#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Sums rounded to even, in the upper halves of words. The lower half of a NaN is zero, as in all
// that sums of bfloat16 make NaN from, and needs no care.
template <class V>
inline V round_bfloat16(V bits) {
    return bits + 0x7fff + ((bits >> 16) & 1);
}
inline ShortVec rounded_sums(Vec<float> v, Bfloat16) {
    return __builtin_convertvector(round_bfloat16((BitsVec)v) >> 16, ShortVec);
}
inline ShortVec rounded_sums(Vec<float> v, Float16) {
    return rounded(v, Float16{});
}

// A vector of any width up to the instruction set's: rows of 7 pixels would leave more than half of
// 16 lanes idle.
template <class N, int BYTES>
struct Pack {
    using Numbers = N;
    using Element = typename N::Sum;
    using Result = typename N::Result;
    using T = Element;
    typedef T Type __attribute__((vector_size(BYTES)));
    typedef T Unaligned __attribute__((vector_size(BYTES), aligned(alignof(T)), may_alias));
    typedef typename IntOf<T>::type Lane __attribute__((vector_size(BYTES)));
    static constexpr int kLanes = BYTES / int(sizeof(T));
    static constexpr bool kFull = BYTES == FASTCONV_VECTOR_BYTES;

    // Of T, or widened.
    template <class S>
    static Type load(const S* p) {
        if constexpr (sizeof(S) == sizeof(T)) {
            return *reinterpret_cast<const Unaligned*>(p);
        } else if constexpr (kSame<T, float>) {
#if defined(__AVX512F__)
            if constexpr (!kFull)
                return (Type)widen_half(p);
            else
#endif
                return widen(p);
        } else {
#if defined(__AVX512F__)
            if constexpr (kFull)
                return (Type)sixteen_ints(p);
            else
                return (Type)eight_ints(p);
#elif defined(__AVX2__)
            return (Type)eight_ints(p);
#else
            Type v;
            for (int i = 0; i < kLanes; ++i) v[i] = T(p[i]);
            return v;
#endif
        }
    }
    static Type splat(T value) { return value - Type{}; }
    static Type splat_result(Result value) {
        if constexpr (N::rounds) {
            return splat(widen_one(value));
        } else {
            return splat(T(value));
        }
    }

    static void store(Result* p, Type v) {
        if constexpr (!N::rounds) {
            *reinterpret_cast<Unaligned*>(p) = v;
        } else if constexpr (kFull) {
            *reinterpret_cast<ShortVecUnaligned*>(p) = rounded_sums(v, Result{});
        } else {
            store_first(p, v, kLanes);
        }
    }

    static Type add_product(Type sum, Type weight, Type value) {
        if constexpr (!kSame<T, std::int32_t>) {
            return sum + weight * value;
        } else if constexpr (kFull) {
            return dot<2>(sum, value, weight);
        } else {
#if defined(__AVX512VNNI__)
            return (Type)_mm256_dpwssd_epi32((__m256i)sum, (__m256i)value, (__m256i)weight);
#elif defined(__AVX2__)
            return (Type)_mm256_add_epi32((__m256i)sum,
                                          _mm256_madd_epi16((__m256i)value, (__m256i)weight));
#endif
        }
    }

    static Type clamp(Type v, T low, T high) {
        if constexpr (kSame<T, std::uint32_t>) {  // the bits of a signed number
            const Lane least = std::int32_t(low) - Lane{}, most = std::int32_t(high) - Lane{};
            Lane lanes = (Lane)v;
            lanes = lanes < least ? least : lanes;
            return (Type)(lanes > most ? most : lanes);
        } else {
            const Type least = splat(low), most = splat(high);
            v = v < least ? least : v;
            return v > most ? most : v;
        }
    }

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
    static void store_first(Result* p, Type v, Index count) {
        if ((kFull || !N::rounds) && count >= kLanes) return store(p, v);
#if defined(__AVX512F__)
        const auto mask = lane_mask<T>(0, int(count));
        if constexpr (N::rounds && kFull) {
            _mm256_mask_storeu_epi16(p, (__mmask16)mask, (__m256i)rounded_sums(v, Result{}));
        } else if constexpr (N::rounds) {
            const Vec<float> wide =
                (Vec<float>)_mm512_maskz_broadcast_f32x8(__mmask16(0xff), (__m256)v);
            const __m256i bits = (__m256i)rounded_sums(wide, Result{});
            _mm_mask_storeu_epi16(p, (__mmask8)mask, _mm256_castsi256_si128(bits));
        } else if constexpr (BYTES == 32 && sizeof(T) == 4) {
            _mm256_mask_storeu_ps(p, (__mmask8)mask, (__m256)v);
        } else if constexpr (BYTES == 32) {
            _mm256_mask_storeu_pd(p, (__mmask8)mask, (__m256d)v);
        } else if constexpr (sizeof(T) == 4) {
            _mm512_mask_storeu_ps(p, (__mmask16)mask, (__m512)v);
        } else {
            masked_store(p, v, mask);
        }
#else
        // masked stores of older instruction sets take tens of cycles on some processors
        alignas(BYTES) Result buffer[kLanes];
        store(buffer, v);
        copy_short<Result, kLanes>(p, buffer, count);
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

#if defined(__AVX512F__)
// Two vectors of sums for 32 bfloat16 beside each other: a word's upper half is a float but for
// masking, its lower half but for a shift, both ways. Nothing has to be moved across lanes.
struct BfloatPairs {
    using Numbers = InPlace<Bfloat16>;
    using Element = float;
    using Result = Bfloat16;
    struct Type {
        Vec<float> even, odd;
    };
    static constexpr int kLanes = 2 * FASTCONV_ISA::kLanes<float>;
    static constexpr Bits kUpper = 0xffff0000;

    static Type load(const Bfloat16* p) {
        const BitsVec bits = (BitsVec)_mm512_loadu_si512(p);
        return {(Vec<float>)(bits << 16), (Vec<float>)(bits & kUpper)};
    }
    static Type splat_result(Bfloat16 value) {
        const Vec<float> v = FASTCONV_ISA::splat(widen_one(value));
        return {v, v};
    }
    static Type add_product(Type sum, Type weight, Type value) {
        return {sum.even + weight.even * value.even, sum.odd + weight.odd * value.odd};
    }
    static Type clamp(Type v, float low, float high) {
        using Half = Pack<Numbers, FASTCONV_VECTOR_BYTES>;
        return {Half::clamp(v.even, low, high), Half::clamp(v.odd, low, high)};
    }
    static __m512i rounded(Type v) {
        return (__m512i)((round_bfloat16((BitsVec)v.even) >> 16) |
                         (round_bfloat16((BitsVec)v.odd) & kUpper));
    }
    static void store(Bfloat16* p, Type v) { _mm512_storeu_si512(p, rounded(v)); }
    static void store_first(Bfloat16* p, Type v, Index count) {
        _mm512_mask_storeu_epi16(p, ~__mmask32(0) >> (kLanes - count), rounded(v));
    }
};
#endif

// The vectors that strips are cut into.
template <class N, bool CHANNELS>
struct Vectors {
    using Full = Pack<N, FASTCONV_VECTOR_BYTES>;
    using Narrow = Pack<N, kNarrowBytes>;
};
#if defined(__AVX512F__)
template <>
struct Vectors<InPlace<Bfloat16>, true> {
    using Full = BfloatPairs;
    using Narrow = Pack<InPlace<Bfloat16>, FASTCONV_VECTOR_BYTES>;
};
#endif
template <class E>
constexpr int kChannelLanes = Vectors<InPlace<E>, true>::Full::kLanes;
template <class E>
constexpr int kLeastChannels = Vectors<InPlace<E>, true>::Narrow::kLanes;

// How the lanes of a strip are cut: full vectors, then a narrow one where that is enough.
template <class N, bool CHANNELS>
struct StripCut {
    static constexpr Index kL = Vectors<N, CHANNELS>::Full::kLanes;
    static constexpr Index kN = Vectors<N, CHANNELS>::Narrow::kLanes;
    Index full;  // lanes computed by full vectors, the last of which may reach back
    bool narrow;
    Index narrow_first;

    // Pixels may be computed beyond the strip by a full vector, channels may not.
    explicit StripCut(Index lanes) {
        const Index rest = lanes % kL;
        narrow = kN < kL && ((rest > 0 && rest <= kN) || (CHANNELS && lanes < kL));
        full = !narrow ? lanes : lanes < kL ? 0 : lanes - rest;
        narrow_first = lanes < kN || full == 0 ? 0 : lanes - kN;
    }
    Index full_vectors() const { return (full + kL - 1) / kL; }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
