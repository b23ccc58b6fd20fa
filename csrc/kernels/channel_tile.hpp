// The micro-kernel of groups of few channels: several output channels times several vectors of
// pixels in registers, pixels read straight from rows of x that were copied with their border.
#pragma once

#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Tile shapes: registers hold OUTPUTS * VECTORS accumulators, VECTORS pixels and one weight. With
// fewer outputs a tile has more vectors, or loads and latency would bound it.
#if defined(__AVX512F__)
constexpr int kChannelOutputs = 8, kChannelVectors = 3, kFewOutputs = 4, kManyVectors = 6;
static_assert(kChannelOutputs * kChannelVectors + kChannelVectors + 1 <= 32, "32 registers");
static_assert(kFewOutputs * kManyVectors + kManyVectors + 1 <= 32, "32 registers");
#elif defined(__aarch64__)
constexpr int kChannelOutputs = 7, kChannelVectors = 3, kFewOutputs = 4, kManyVectors = 4;
static_assert(kChannelOutputs * kChannelVectors + kChannelVectors + 1 <= 32, "32 registers");
#elif defined(__AVX2__)
constexpr int kChannelOutputs = 4, kChannelVectors = 3, kFewOutputs = 2, kManyVectors = 4;
static_assert(kChannelOutputs * kChannelVectors + kChannelVectors + 1 <= 16, "16 registers");
#else
constexpr int kChannelOutputs = 4, kChannelVectors = 2, kFewOutputs = 2, kManyVectors = 4;
static_assert(kChannelOutputs * kChannelVectors + kChannelVectors + 2 <= 16, "16 registers");
#endif

constexpr int channel_vectors(int outputs) {
    return outputs <= kFewOutputs ? kManyVectors : kChannelVectors;
}

// What a tile reads. Tap t of channel c reads pixels at x + c * channel_pitch + offsets[t]; the
// weights of one output channel lie in the order (c, t).
template <class T>
struct ChannelTaps {
    const T* x;
    Index channels, channel_pitch;
    const Index* offsets;
    Index taps;
    const T* w;
    Index w_pitch;
};

// Every element is one chain of multiply-adds in the order (c, r, s), whatever the tile's shape.
template <class T, int OUTPUTS, int VECTORS>
void channel_tile(const ChannelTaps<T>& in, T* out, Index out_pitch) {
    constexpr int kL = kLanes<T>;
    Vec<T> acc[OUTPUTS][VECTORS];
    const T* w[OUTPUTS];
#pragma GCC unroll 8
    for (int k = 0; k < OUTPUTS; ++k) {
        w[k] = in.w + k * in.w_pitch;
#pragma GCC unroll 6
        for (int j = 0; j < VECTORS; ++j) acc[k][j] = Vec<T>{};
    }
    const T* x = in.x;
    const Index* const end = in.offsets + in.taps;
    Index depth = 0;
    for (Index c = 0; c < in.channels; ++c, x += in.channel_pitch) {
        const Index* offset = in.offsets;
        do {
            const T* from = x + *offset;
            Vec<T> pixels[VECTORS];
#pragma GCC unroll 6
            for (int j = 0; j < VECTORS; ++j) pixels[j] = load(from + j * kL);
#pragma GCC unroll 8
            for (int k = 0; k < OUTPUTS; ++k) {
                const Vec<T> weight = splat(w[k][depth]);
#pragma GCC unroll 6
                for (int j = 0; j < VECTORS; ++j) acc[k][j] += weight * pixels[j];
            }
            ++depth;
        } while (++offset != end);
    }
#pragma GCC unroll 8
    for (int k = 0; k < OUTPUTS; ++k)
#pragma GCC unroll 6
        for (int j = 0; j < VECTORS; ++j) store(out + k * out_pitch + j * kL, acc[k][j]);
}

template <class T>
using ChannelFunction = void (*)(const ChannelTaps<T>&, T*, Index);

// The tile functions, by number of outputs and vectors (both counted from one).
template <class T>
struct ChannelTable {
    ChannelFunction<T> by_shape[kChannelOutputs][kManyVectors];

    template <int OUTPUTS, int VECTORS>
    constexpr void fill() {
        by_shape[OUTPUTS - 1][VECTORS - 1] = channel_tile<T, OUTPUTS, VECTORS>;
        if constexpr (VECTORS > 1) {
            fill<OUTPUTS, VECTORS - 1>();
        } else if constexpr (OUTPUTS > 1) {
            fill<OUTPUTS - 1, channel_vectors(OUTPUTS - 1)>();
        }
    }
    constexpr ChannelTable() : by_shape{} { fill<kChannelOutputs, kChannelVectors>(); }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
