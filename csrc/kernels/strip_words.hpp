// Words of the strip and of packed weights, made of elements of 8 and 16 bits.
#pragma once

#include "kernels/border.hpp"
#include "kernels/narrow.hpp"
#include "kernels/transpose.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int kChunk = 16;  // elements of a line that become words at a time

template <int BYTES>
struct Bytes {
    char data[BYTES];
};

// Exactly `bytes` of them, BYTES <= bytes: the last chunk overlaps the one before.
template <int BYTES>
inline void copy_chunks(char* to, const char* from, Index bytes) {
    for (Index i = 0; i < bytes; i += BYTES) {
        const Index at = least(i, bytes - BYTES);
        Bytes<BYTES> chunk;
        __builtin_memcpy(&chunk, from + at, BYTES);
        __builtin_memcpy(to + at, &chunk, BYTES);
    }
}

// Lines are a few to a few hundred elements, for which a call of memcpy costs more than the copy.
template <class T>
inline void copy_line(T* to, const T* from, Index count) {
    const Index bytes = count * Index(sizeof(T));
    auto* to_bytes = reinterpret_cast<char*>(to);
    const auto* from_bytes = reinterpret_cast<const char*>(from);
    if (bytes >= 16) {
        copy_chunks<16>(to_bytes, from_bytes, bytes);
    } else if (bytes >= 8) {
        copy_chunks<8>(to_bytes, from_bytes, bytes);
    } else if (bytes >= 4) {
        copy_chunks<4>(to_bytes, from_bytes, bytes);
    } else {
        for (Index i = 0; i < count; ++i) to[i] = from[i];
    }
}

// The bits of one element, those of an integer's sign carried on.
template <class T>
inline std::uint32_t bits_of(T value) {
    return std::uint32_t(std::int32_t(value));
}
inline std::uint32_t bits_of(Bfloat16 value) {
    return value.bits;
}

// One word from `left` elements that are consecutive, or from none.
template <class T>
inline WordOf<T> join(const T* from, Index left, std::uint32_t flip) {
    constexpr int kM = kMembers<T>, kBits = 32 / kM;
    if constexpr (kWidens<T>) {
        return left > 0 ? widen_one(*from) : 0.0f;
    } else {
        constexpr std::uint32_t kMask = kM == 4 ? 0xff : 0xffff;
        std::uint32_t word = 0;
        for (int m = 0; m < kM && m < left; ++m) {
            word |= ((bits_of(from[m]) ^ flip) & kMask) << m * kBits;
        }
        return WordOf<T>(word);
    }
}

// One whole word.
template <class T>
inline WordOf<T> join_whole(const T* from, std::uint32_t flip) {
    constexpr int kM = kMembers<T>;
    if constexpr (!kWidens<T> && kM * sizeof(T) == 4) {
        std::uint32_t value;
        __builtin_memcpy(&value, from, 4);
        for (int m = 0; m < kM; ++m) value ^= flip << m * (32 / kM);
        return WordOf<T>(value);
    } else {
        return join(from, kM, flip);
    }
}

inline void widen_chunk(float* to, const Float16* from) {
    for (int i = 0; i < kChunk; i += kLanes<float>) store(to + i, widen(from + i));
}
inline void widen_chunk(float* to, const Bfloat16* from) {
    for (int i = 0; i < kChunk; i += kLanes<float>) store(to + i, widen(from + i));
}

#if defined(__SSE2__)
inline __m128i load_bytes(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
inline void store_words(std::int32_t* to, __m128i low, __m128i high) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), low);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 4), high);
}
inline void store_pairs(std::int32_t* to, __m128i a, __m128i b) {
    store_words(to, _mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
}
inline __m128i widen_low(__m128i v, bool is_signed) {
    return is_signed ? _mm_srai_epi16(_mm_unpacklo_epi8(v, v), 8)
                     : _mm_unpacklo_epi8(v, _mm_setzero_si128());
}
inline __m128i widen_high(__m128i v, bool is_signed) {
    return is_signed ? _mm_srai_epi16(_mm_unpackhi_epi8(v, v), 8)
                     : _mm_unpackhi_epi8(v, _mm_setzero_si128());
}

#endif

// kChunk words from kChunk elements of every member's line.
template <class T>
inline void interleave_chunk(WordOf<T>* to, const T* const* lines, Index at, std::uint32_t flip) {
    if constexpr (kWidens<T>) {
        widen_chunk(to, lines[0] + at);
    } else {
#if defined(__SSE2__)
        if constexpr (kMembers<T> == 4) {
            const __m128i flips = _mm_set1_epi8(char(flip));
            const __m128i a = _mm_xor_si128(load_bytes(lines[0] + at), flips);
            const __m128i b = _mm_xor_si128(load_bytes(lines[1] + at), flips);
            const __m128i c = _mm_xor_si128(load_bytes(lines[2] + at), flips);
            const __m128i d = _mm_xor_si128(load_bytes(lines[3] + at), flips);
            store_pairs(to, _mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
            store_pairs(to + 8, _mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
        } else if constexpr (sizeof(T) == 1) {
            constexpr bool kSigned = T(-1) < T(0);
            const __m128i a = load_bytes(lines[0] + at), b = load_bytes(lines[1] + at);
            store_pairs(to, widen_low(a, kSigned), widen_low(b, kSigned));
            store_pairs(to + 8, widen_high(a, kSigned), widen_high(b, kSigned));
        } else {
            const __m128i flips = _mm_set1_epi16(short(flip));
            for (int half = 0; half < kChunk; half += 8) {
                const __m128i a = _mm_xor_si128(load_bytes(lines[0] + at + half), flips);
                const __m128i b = _mm_xor_si128(load_bytes(lines[1] + at + half), flips);
                store_pairs(to + half, a, b);
            }
        }
#else
        for (int i = 0; i < kChunk; ++i) {
            T members[kMembers<T>];
            for (int m = 0; m < kMembers<T>; ++m) members[m] = lines[m][at + i];
            to[i] = join(members, kMembers<T>, flip);
        }
#endif
    }
}

// `count` words from lines of `count` elements; lines shorter than a chunk must be readable, and
// `to` writable, up to the end of it.
template <class T>
inline void interleave(WordOf<T>* to, const T* const* lines, Index count, std::uint32_t flip) {
    Index i = 0;
    for (; i + kChunk <= count; i += kChunk) interleave_chunk(to + i, lines, i, flip);
    if (i == count) return;
    const Index at = count < kChunk ? 0 : count - kChunk;
    interleave_chunk(to + at, lines, at, flip);
}

// A vector of words of consecutive elements.
template <class T>
inline Vec<WordOf<T>> load_words(const T* from, std::uint32_t flip) {
    if constexpr (kWidens<T>) {
        return widen(from);
    } else if constexpr (kMembers<T> * sizeof(T) == 4) {
        const std::uint32_t flips = sizeof(T) == 1 ? flip * 0x01010101u : flip * 0x00010001u;
        return load(reinterpret_cast<const std::int32_t*>(from)) ^ std::int32_t(flips);
    } else {
        typedef T Bytes
            __attribute__((vector_size(FASTCONV_VECTOR_BYTES / 2), aligned(1), may_alias));
        typedef std::int16_t Shorts __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
        return (Words) __builtin_convertvector(*reinterpret_cast<const Bytes*>(from), Shorts);
    }
}

// Where the channels of pixels are consecutive in memory, words are read as they are, kTurned of
// kTurned pixels at a time, and turned: to[word * plane + pixel].
#if defined(__SSE2__)
constexpr Index kTurned = 4;

template <class T>
inline __m128i load_pixel_words(const T* from) {
    if constexpr (kMembers<T> == 4) {
        return _mm_xor_si128(load_bytes(from), _mm_set1_epi8(char(Narrow<T>::flip_x)));
    } else if constexpr (sizeof(T) == 2) {
        return _mm_xor_si128(load_bytes(from), _mm_set1_epi16(short(Narrow<T>::flip_x)));
    } else {
        const auto* half = reinterpret_cast<const __m128i*>(from);
        return widen_low(_mm_loadl_epi64(half), T(-1) < T(0));
    }
}

template <class T>
inline void turn_integers(const T* from, Index pixel_pitch, std::int32_t* to, Index plane) {
    const __m128i a = load_pixel_words(from), b = load_pixel_words(from + pixel_pitch);
    const __m128i c = load_pixel_words(from + 2 * pixel_pitch);
    const __m128i d = load_pixel_words(from + 3 * pixel_pitch);
    const __m128i ab = _mm_unpacklo_epi32(a, b), ab2 = _mm_unpackhi_epi32(a, b);
    const __m128i cd = _mm_unpacklo_epi32(c, d), cd2 = _mm_unpackhi_epi32(c, d);
    const auto put = [&](Index word, __m128i v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + word * plane), v);
    };
    put(0, _mm_unpacklo_epi64(ab, cd));
    put(1, _mm_unpackhi_epi64(ab, cd));
    put(2, _mm_unpacklo_epi64(ab2, cd2));
    put(3, _mm_unpackhi_epi64(ab2, cd2));
}
#else
constexpr Index kTurned = 4;

template <class T>
inline void turn_integers(const T* from, Index pixel_pitch, std::int32_t* to, Index plane) {
    for (Index i = 0; i < kTurned; ++i) {
        for (Index word = 0; word < kTurned; ++word) {
            to[word * plane + i] =
                join(from + i * pixel_pitch + word * kMembers<T>, kMembers<T>, Narrow<T>::flip_x);
        }
    }
}
#endif

template <class T>
constexpr Index turned() {
    return kWidens<T> ? Index(kLanes<float>) : kTurned;
}

template <class T>
inline void turn_pixels(const T* from, Index pixel_pitch, WordOf<T>* to, Index plane) {
    if constexpr (kWidens<T>) {
        constexpr int kL = kLanes<float>;
        Vec<float> block[kL];
        for (int i = 0; i < kL; ++i) block[i] = widen(from + i * pixel_pitch);
        transpose<float>(block);
        for (int i = 0; i < kL; ++i) store(to + i * plane, block[i]);
    } else {
        turn_integers(from, pixel_pitch, to, plane);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
