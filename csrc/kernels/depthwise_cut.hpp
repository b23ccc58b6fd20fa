// How a depthwise convolution is cut, its packed weights, and what all of its tiles share.
#pragma once

#include "kernels/border.hpp"
#include "kernels/depthwise_strips.hpp"
#include "kernels/finish.hpp"
#include "kernels/kernels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// A tile reads at most this many consecutive padded rows; see depthwise_fits.
constexpr int kMostSpan = 128;
constexpr int kMostTileRows = 7;
// Vectors of pixels in a block of columns, at most.
constexpr Index kMostVectors = 32;
// Channels whose tiles are computed in one call, where maps are small: so many that the call costs
// little, as long as their rows stay in the first-level cache.
constexpr Index kMostPlanes = 16, kGroupBytes = 12 << 10;
// Scratch that stays in a first-level cache beside the rows of y.
constexpr Index kFirstLevelBytes = 24 << 10;

inline Index row_span(const Problem& problem, Index rows) {
    return (rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1;
}

template <class T>
inline Index whole_lines(Index elements) {
    constexpr Index kElements = 64 / Index(sizeof(T));
    return ceil_div(elements, kElements) * kElements;
}

// Pitch between the vectors of weights of one tap: an odd number of lines, so that the taps of one
// lane lie in different sets of the cache.
template <class T>
inline Index weight_pitch(Index channels) {
    constexpr Index kElements = 64 / Index(sizeof(T));
    return (ceil_div(channels, kElements) | 1) * kElements;
}

// Channels of block `index`: all blocks have a vector at least, the last one what is left over.
template <class E>
inline Index block_begin(const Problem& problem, const DepthwiseCut& cut, Index index) {
    constexpr Index kL = kChannelLanes<E>;
    const Index vectors = problem.k / kL;
    return index == cut.channel_blocks ? problem.k : index * vectors / cut.channel_blocks * kL;
}

// Whether the even and the odd columns of a copied row together fill one vector.
template <class T>
inline bool phases_share_vector(const Problem& problem, Index cols) {
    const Index reach = (problem.s - 1) * problem.dilation_w;
    return problem.stride_w == 2 && 2 * (cols + reach / 2) <= kLanes<T>;
}

inline Index group_planes(Index plane_bytes) {
    return most(1, least(kMostPlanes, kGroupBytes / plane_bytes));
}

// Widths that depend on the vector and on the sizes of the caches.
template <class E>
void depthwise_geometry(const Problem& problem, DepthwiseCut& cut) {
    using T = DepthwiseSum<E>;
    constexpr Index kL = kLanes<T>, kBytes = Index(sizeof(T));
    const Index rows = least(problem.p, Index(kMostTileRows));
    cut.channel_lanes =
        cut.channel_lanes && problem.k == problem.c && problem.k >= kLeastChannels<E>;
    cut.slots = row_span(problem, rows);
    if (cut.channel_lanes) {
        constexpr Index kC = kChannelLanes<E>;
        const Index bytes = cut.slots * problem.s * Index(sizeof(E)) +
                            problem.r * problem.s * Index(sizeof(ChannelWeight<E>));
        const Index block = most(1, least(8, kFirstLevelBytes / (bytes * kC)));
        const Index vectors = most(1, problem.k / kC);
        cut.channel_blocks = ceil_div(vectors, block);
        cut.channel_block = ceil_div(vectors, cut.channel_blocks) * kC + kC;
        cut.slot_pitch = weight_pitch<T>(cut.channel_block);
        return;
    }
    const Index reach = (problem.s - 1) * problem.dilation_w;
    // both phases of stride 2, of which a kernel of one column reads one
    const Index phases = problem.stride_w == 2 ? 2 : least(problem.stride_w, reach + 1);
    const Index extra = reach / problem.stride_w + kL;
    const auto phase_pitch = [&](Index cols) { return whole_lines<T>(cols + extra); };
    const Index room = kFirstLevelBytes / kBytes / (cut.slots + 1) / phases - extra - 64 / kBytes;
    const Index vectors = ceil_div(problem.q, kL);
    cut.col_blocks = ceil_div(vectors, least(most(1, room / kL), kMostVectors));
    cut.col_block = ceil_div(vectors, cut.col_blocks) * kL;
    cut.col_blocks = ceil_div(problem.q, cut.col_block);
    cut.phase_pitch = phase_pitch(least(cut.col_block, problem.q));
    cut.slot_pitch = phases * cut.phase_pitch;
    if (phases_share_vector<T>(problem, problem.q)) {
        cut.phase_pitch = kL / 2;
        cut.slot_pitch = 2 * kL;
    }
    cut.planes = group_planes(cut.slots * cut.slot_pitch * kBytes);
}

template <class E>
Index depthwise_scratch(const Problem& problem, const DepthwiseCut& cut) {
    using T = DepthwiseSum<E>;
    if (cut.channel_lanes) return (problem.r * problem.s + 2) * cut.slot_pitch;
    return (cut.planes * cut.slots + 1) * cut.slot_pitch +
           kMostTileRows * whole_lines<T>(cut.col_block);
}

// Weights in the order in which tiles use them: column by column. A vector of channels for each
// tap, or the taps of one channel after another.
template <class E>
void pack_channel_vectors(const Problem& problem, const View<const E>& w, Index first, Index count,
                          ChannelWeight<E>* packed, Index pitch) {
    for (Index k = 0; k < count; ++k) {
        const E* from = w.data + (first + k) * w.stride[0];
        for (Index r = 0; r < problem.r; ++r) {
            for (Index s = 0; s < problem.s; ++s) {
                const E weight = from[r * w.stride[2] + s * w.stride[3]];
                ChannelWeight<E>& to = packed[(s * problem.r + r) * pitch + k];
                if constexpr (kSame<ChannelWeight<E>, E>) {
                    to = weight;
                } else {
                    to = widen_weight(weight);
                }
            }
        }
    }
}

template <class E>
void pack_channel(const Problem& problem, const View<const E>& w, Index k,
                  DepthwiseSum<E>* packed) {
    const E* from = w.data + k * w.stride[0];
    for (Index s = 0; s < problem.s; ++s) {
        for (Index r = 0; r < problem.r; ++r) {
            *packed++ = widen_weight(from[r * w.stride[2] + s * w.stride[3]]);
        }
    }
}

template <class E>
void depthwise_pack(const Problem& problem, const View<const E>& w, void* packed) {
    const Index taps = problem.r * problem.s;
    if (problem.channels_last) {
        using Weight = ChannelWeight<E>;
        auto* const to = static_cast<Weight*>(packed);
        const Index pitch = weight_pitch<DepthwiseSum<E>>(problem.k);
        for (Index i = 0; i < taps * pitch; ++i) to[i] = Weight{};
        pack_channel_vectors(problem, w, 0, problem.k, to, pitch);
    } else {
        auto* const to = static_cast<DepthwiseSum<E>*>(packed);
        for (Index k = 0; k < problem.k; ++k) pack_channel(problem, w, k, to + k * taps);
    }
}

// The other activations are applied to a finished strip, which is still in the cache, or to sums
// that are about to be rounded.
inline bool finishes_later(Activation activation) {
    return activation != Activation::kNone && activation != Activation::kRelu &&
           activation != Activation::kRelu6;
}

// Of `count` results beside each other, which are as good as sums.
template <class N>
inline void finish_strip(typename N::Result* y, Index count, Activation activation) {
    using T = typename N::Sum;
    if constexpr (N::plain) finish_row<T>(y, count, nullptr, 0, activation);
}

template <class T>
struct Limits {
    static constexpr T high = T(__builtin_inf()), low = -high;
};
template <>
struct Limits<std::int32_t> {
    static constexpr std::int32_t high = 0x7fffffff, low = -high - 1;
};
template <>
struct Limits<std::uint32_t> {  // of the signed numbers that these stand for
    static constexpr std::uint32_t high = 0x7fffffff, low = 0x80000000;
};

template <class N>
Strip<N> make_strip(const Problem& problem, const ColumnTaps<typename N::Pixel>* columns) {
    using T = typename N::Sum;
    Strip<N> strip{};
    strip.columns = columns;
    strip.column_count = problem.s;
    strip.row_count = problem.r;
    strip.stride = problem.stride_h;
    strip.dilation = problem.dilation_h;
    const bool clamps =
        problem.activation == Activation::kRelu || problem.activation == Activation::kRelu6;
    strip.planes = 1;
    strip.clamps = clamps;
    strip.low = clamps ? T(0) : Limits<T>::low;
    strip.high = problem.activation == Activation::kRelu6 ? T(6) : Limits<T>::high;
    strip.later = finishes_later(problem.activation) ? problem.activation : Activation::kNone;
    return strip;
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
