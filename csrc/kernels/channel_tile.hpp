// The micro-kernel of groups of few channels: several output channels times several vectors of
// pixels in registers, pixels read straight from rows of x that were copied with their border.
#pragma once

#include "kernels/copy.hpp"
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

// Lanes [begin, end) of a vector that belong to one row of y; lane 0 would be at y + to.
struct LaneSegment {
    Index to;
    int begin, end;
};

// A vector of pixels: where its taps are read, and its segments.
struct LaneVector {
    Index x;
    Index first_segment, segments;
};

// What a tile reads. Step d of the reduction, in the order (c, r, s), reads vector v at
// x + v.x + offsets[d]; the weights of one output channel lie in the same order.
template <class T>
struct ChannelTaps {
    const T* x;
    const LaneVector* vectors;
    const std::int32_t* offsets;
    Index depth;
    const T* w;
    Index w_pitch;
    const T* bias;  // or null
};

// Where a tile goes: into the rows of y, or, where `segments` is null, vector after vector into
// rows of kManyVectors vectors.
template <class T>
struct ChannelTarget {
    T* to;
    Index pitch;  // of output channels
    const LaneSegment* segments;
};

template <class T>
inline void store_lanes(T* to, Vec<T> v, int begin, int end) {
    if (end - begin == kLanes<T>) {
        store(to, v);
    } else {
#if defined(__AVX512F__)
        masked_store(to, v, lane_mask<T>(begin, end));
#else
        // masked stores of older instruction sets take tens of cycles on some processors
        alignas(FASTCONV_VECTOR_BYTES) T buffer[kLanes<T>];
        store(buffer, v);
        copy_short<T, kLanes<T> / 2>(to + begin, buffer + begin, end - begin);
#endif
    }
}

// Every element is one chain of multiply-adds in the order (c, r, s) that begins with the bias,
// whatever the tile's shape.
template <class T, int OUTPUTS, int VECTORS>
void channel_tile(const ChannelTaps<T>& in, const ChannelTarget<T>& out) {
    constexpr int kL = kLanes<T>;
    Vec<T> acc[OUTPUTS][VECTORS];
    const T* x[VECTORS];
    // Weights are reached from every fourth row: addresses of all rows would not fit the registers.
    const T* w[(OUTPUTS + 3) / 4];
    const Index w_pitch = in.w_pitch;
#pragma GCC unroll 2
    for (int k = 0; k < OUTPUTS; k += 4) w[k / 4] = in.w + k * w_pitch;
#pragma GCC unroll 6
    for (int j = 0; j < VECTORS; ++j) x[j] = in.x + in.vectors[j].x;
#pragma GCC unroll 8
    for (int k = 0; k < OUTPUTS; ++k) {
        const Vec<T> first = in.bias ? splat(in.bias[k]) : Vec<T>{};
#pragma GCC unroll 6
        for (int j = 0; j < VECTORS; ++j) acc[k][j] = first;
    }
    if (out.segments) {
        // y is fetched while the tile is computed: the stores at the end would wait for memory
        for (int j = 0; j < VECTORS; ++j) {
            T* to = out.to + out.segments[in.vectors[j].first_segment].to;
#pragma GCC unroll 8
            for (int k = 0; k < OUTPUTS; ++k) __builtin_prefetch(to + k * out.pitch, 1);
        }
    }
    for (Index d = 0; d < in.depth; ++d) {
        const Index from = in.offsets[d];
        Vec<T> pixels[VECTORS];
#pragma GCC unroll 6
        for (int j = 0; j < VECTORS; ++j) pixels[j] = load(x[j] + from);
#pragma GCC unroll 8
        for (int k = 0; k < OUTPUTS; ++k) {
            const Vec<T> weight = splat(w[k / 4][k % 4 * w_pitch]);
#pragma GCC unroll 6
            for (int j = 0; j < VECTORS; ++j) acc[k][j] += weight * pixels[j];
        }
#pragma GCC unroll 2
        for (int k = 0; k < OUTPUTS; k += 4) ++w[k / 4];
    }
#pragma GCC unroll 6
    for (int j = 0; j < VECTORS; ++j) {
        if (!out.segments) {
#pragma GCC unroll 8
            for (int k = 0; k < OUTPUTS; ++k) store(out.to + k * out.pitch + j * kL, acc[k][j]);
            continue;
        }
        const LaneSegment* segment = out.segments + in.vectors[j].first_segment;
        for (Index i = 0; i < in.vectors[j].segments; ++i, ++segment) {
            T* to = out.to + segment->to;
#pragma GCC unroll 8
            for (int k = 0; k < OUTPUTS; ++k) {
                store_lanes(to + k * out.pitch, acc[k][j], segment->begin, segment->end);
            }
        }
    }
}

template <class T>
using ChannelFunction = void (*)(const ChannelTaps<T>&, const ChannelTarget<T>&);

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
