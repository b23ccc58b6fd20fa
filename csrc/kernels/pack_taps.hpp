// Packing weights as gradients of x see them: w (K, C, R, S) is dense, and lanes are its channels
// C, so that the taps of as many channels as a vector has lanes are consecutive vectors. They are
// turned in registers, all taps at once, and each goes to the panel of its stride phase: w is read
// once.
#pragma once

#include "kernels/gemm_tile.hpp"
#include "kernels/gradient_jobs.hpp"
#include "kernels/pack_weights.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Lanes of `moved` where `turn` of the lane has the bit BIT, of `kept` elsewhere.
template <int TAPS, int BIT, class T, int... LANE>
inline Vec<T> merge_turned(Vec<T> kept, Vec<T> moved, LaneList<LANE...>) {
    constexpr int kL = kLanes<T>;
    constexpr auto from = [](int lane) {
        return tap_turn(kL, TAPS) * lane % TAPS & BIT ? kL + lane : lane;
    };
#if defined(__clang__)
    return __builtin_shufflevector(kept, moved, from(LANE)...);
#else
    return __builtin_shuffle(kept, moved, IntVec<T>{from(LANE)...});
#endif
}

// Moves lane l of every row down by the bits from BIT on of its number of rows.
template <int TAPS, int BIT, class T>
inline void turn_lanes(Vec<T> (&rows)[TAPS]) {
    Vec<T> from[TAPS];
#pragma GCC unroll 16
    for (int i = 0; i < TAPS; ++i) from[i] = rows[i];
#pragma GCC unroll 16
    for (int i = 0; i < TAPS; ++i) {
        rows[i] = merge_turned<TAPS, BIT, T>(from[i], from[(i + TAPS - BIT) % TAPS],
                                             AllLanes<kLanes<T>>{});
    }
    if constexpr (2 * BIT < TAPS) turn_lanes<TAPS, 2 * BIT, T>(rows);
}

// An odd number of taps. Element TAPS * c + t is lane l of vector v, and its neighbours of the same
// tap lie in other lanes, each in one of its own: v = turn * (t - l) modulo TAPS. So every lane
// moves by a number of rows, bit by bit, until a vector holds one tap, and its lanes are put in
// order.
template <int TAPS, class T>
inline void split_odd(Vec<T> (&taps)[TAPS], const T* from) {
    constexpr int kL = kLanes<T>, turn = tap_turn(kL, TAPS);
    Vec<T> rows[TAPS];
#pragma GCC unroll 16
    for (int v = 0; v < TAPS; ++v) rows[v] = load(from + v * kL);
    turn_lanes<TAPS, 1, T>(rows);
#pragma GCC unroll 16
    for (int t = 0; t < TAPS; ++t) {
        IntVec<T> index{};
        for (int c = 0; c < kL; ++c) index[c] = (TAPS * c + t) % kL;
        taps[t] = permute<T>(rows[turn * t % TAPS], index);
    }
}

// A power of two: even and odd elements, and so on.
template <int TAPS, class T>
inline void split_even(Vec<T> (&taps)[TAPS]) {
    if constexpr (TAPS > 1) {
        Vec<T> half[2][TAPS / 2];
#pragma GCC unroll 16
        for (int i = 0; i < TAPS / 2; ++i) {
            half[0][i] = even_lanes<T>(taps[2 * i], taps[2 * i + 1]);
            half[1][i] = odd_lanes<T>(taps[2 * i], taps[2 * i + 1]);
        }
        split_even<TAPS / 2, T>(half[0]);
        split_even<TAPS / 2, T>(half[1]);
#pragma GCC unroll 16
        for (int i = 0; i < TAPS; ++i) taps[i] = half[i % 2][i / 2];
    }
}

// The taps of a vector of outputs.
template <int TAPS, class T>
inline void split_taps(Vec<T> (&taps)[TAPS], const T* from) {
    constexpr int kL = kLanes<T>;
    if constexpr (TAPS % 2 == 1) {
        split_odd<TAPS, T>(taps, from);
    } else if constexpr (TAPS < kL) {
#pragma GCC unroll 16
        for (int v = 0; v < TAPS; ++v) taps[v] = load(from + v * kL);
        split_even<TAPS, T>(taps);
    } else {
        static_assert(TAPS % kL == 0, "whole squares");
        for (int first = 0; first < TAPS; first += kL) {
            Vec<T> square[kL];
#pragma GCC unroll 16
            for (int i = 0; i < kL; ++i) square[i] = load(from + i * TAPS + first);
            transpose<T>(square);
#pragma GCC unroll 16
            for (int i = 0; i < kL; ++i) taps[first + i] = square[i];
        }
    }
}

template <int TAPS, class T>
bool pack_taps_of(const TapPacking<T>& job) {
    constexpr int kL = kLanes<T>;
    constexpr Index kAhead = 3;  // steps
    const Index vectors = job.outputs / kL;
    ZeroSums<T> zeros;
    T* to[TAPS];
    for (int t = 0; t < TAPS; ++t) to[t] = job.tap[t].to;
    const T* from = job.w;
    for (Index c = 0; c < job.channels; ++c, from += job.channel) {
        const T* next = c + kAhead < job.channels ? from + kAhead * job.channel : from;
        for (Index v = 0; v < vectors; ++v) {
            const Index at = v * kL * TAPS;
            for (Index i = 0; i < TAPS * kL; i += 64 / Index(sizeof(T))) {
                __builtin_prefetch(next + at + i);
            }
            Vec<T> taps[TAPS];
            split_taps<TAPS, T>(taps, from + at);
            const Index panel = v / kVectors, lane = v % kVectors * kL;
#pragma GCC unroll 16
            for (int t = 0; t < TAPS; ++t) {
                store(to[t] + panel * job.tap[t].panel + lane, taps[t]);
                zeros.add(t, taps[t]);
            }
        }
        for (int t = 0; t < TAPS; ++t) to[t] += job.tap[t].step;
    }
    return zeros.finite();
}

// Returns whether the weights are finite. Outputs are whole panels.
template <class T>
bool pack_taps(const TapPacking<T>& job) {
    switch (job.taps) {
        case 4:
            return pack_taps_of<4>(job);
        case 9:
            return pack_taps_of<9>(job);
        default:
            return pack_taps_of<16>(job);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
