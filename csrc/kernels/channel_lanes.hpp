// Groups of few channels with output channels as lanes: for small maps, whose rows fill vectors
// badly, where the groups' outputs fill them well. Weights have to be packed for it, so that only
// plans do it; the sums are the same chains as with pixels as lanes, and so are their bits.
#pragma once

#include "kernels/channel_planes.hpp"
#include "kernels/channel_tile.hpp"
#include "kernels/finish.hpp"
#include "kernels/transpose.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Tile shapes: registers hold the pixels of some rows of y times the vectors of output channels,
// these vectors' weights and one pixel of x.
constexpr int kLaneCols = 7, kLaneVectors = 2, kMostLaneRows = 3;
#if defined(__AVX512F__)
constexpr bool kHasChannelLanes = true;
#else
constexpr bool kHasChannelLanes = false;  // narrower vectors leave few lanes empty
#endif
constexpr int lane_rows(int vectors) {
    return vectors == 1 ? 3 : 2;
}
static_assert(kLaneCols * lane_rows(2) * 2 + 2 + 1 <= 32, "32 registers");
static_assert(kLaneCols * lane_rows(1) + 1 + 1 <= 32, "32 registers");
// Output channels as lanes where that fills them better by this factor.
constexpr double kLanesGain = 1.2;

// Elements of the packed weights of one group, [set of vectors][step][lane]; 0 where pixels are the
// better lanes.
template <class T>
Index lane_weights(const Problem& problem) {
    if (!kHasChannelLanes) return 0;
    constexpr Index kL = kLanes<T>;
    const Index outputs = problem.k / problem.groups, lanes = ceil_div(outputs, kL) * kL;
    const PlaneLayout layout = plane_layout<T>(problem, problem.p, problem.q);
    const Index pixels = problem.p * problem.q;
    const Index pixel_lanes = count_lanes<T>(problem.p, problem.q, layout.pitch).vectors * kL;
    const double filled = double(outputs) / double(lanes);
    const double pixels_filled = double(pixels) / double(pixel_lanes);
    if (filled < kLanesGain * pixels_filled) return 0;
    return lanes * (problem.c / problem.groups) * problem.r * problem.s;
}

template <class T>
void pack_lanes(const Problem& problem, const View<const T>& w, T* to) {
    constexpr Index kL = kLanes<T>;
    const Index outputs = problem.k / problem.groups;
    for (Index group = 0; group < problem.groups; ++group) {
        for (Index k0 = 0; k0 < outputs; k0 += kLaneVectors * kL) {
            const Index lanes = least(kLaneVectors * kL, ceil_div(outputs - k0, kL) * kL);
            for (Index c = 0; c < problem.c / problem.groups; ++c) {
                for (Index tap = 0; tap < problem.r * problem.s; ++tap, to += lanes) {
                    const T* from = w.data + (group * outputs + k0) * w.stride[0] +
                                    c * w.stride[1] + tap / problem.s * w.stride[2] +
                                    tap % problem.s * w.stride[3];
                    for (Index lane = 0; lane < lanes; ++lane) {
                        to[lane] = k0 + lane < outputs ? from[lane * w.stride[0]] : T(0);
                    }
                }
            }
        }
    }
}

// What a tile reads: pixel (row, col) of step d at x + offsets[d] + row * pitch + col.
template <class T>
struct LaneTaps {
    const T* x;
    Index pitch;
    const std::int32_t* offsets;
    Index depth;
    const T* w;     // [step][lane]
    const T* bias;  // of the lanes, or null
    Index lanes;    // that are output channels
};

template <class T, int VECTORS, int ROWS, int COLS>
void lane_tile(const LaneTaps<T>& in, T* out) {
    constexpr int kL = kLanes<T>;
    Vec<T> acc[ROWS * COLS][VECTORS];
#pragma GCC unroll 2
    for (int j = 0; j < VECTORS; ++j) {
        Vec<T> first{};
        if (in.bias) first = load_first(in.bias + j * kL, least(kL, in.lanes - j * kL));
#pragma GCC unroll 32
        for (int i = 0; i < ROWS * COLS; ++i) acc[i][j] = first;
    }
    const T* w = in.w;
    const Index pitch = in.pitch;
    for (Index d = 0; d < in.depth; ++d, w += VECTORS * kL) {
        const T* x = in.x + in.offsets[d];
        Vec<T> weights[VECTORS];
#pragma GCC unroll 2
        for (int j = 0; j < VECTORS; ++j) weights[j] = load(w + j * kL);
#pragma GCC unroll 3
        for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 7
            for (int col = 0; col < COLS; ++col) {
                const Vec<T> pixel = splat(x[row * pitch + col]);
#pragma GCC unroll 2
                for (int j = 0; j < VECTORS; ++j) acc[row * COLS + col][j] += pixel * weights[j];
            }
        }
    }
#pragma GCC unroll 32
    for (int i = 0; i < ROWS * COLS; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < VECTORS; ++j) store(out + (i * VECTORS + j) * kL, acc[i][j]);
}

template <class T>
using LaneFunction = void (*)(const LaneTaps<T>&, T*);

// The tile functions, by number of vectors, rows and columns (all counted from one).
template <class T>
struct LaneTable {
    LaneFunction<T> by_shape[kLaneVectors][kMostLaneRows][kLaneCols];

    template <int VECTORS, int ROWS, int COLS>
    constexpr void fill() {
        by_shape[VECTORS - 1][ROWS - 1][COLS - 1] = lane_tile<T, VECTORS, ROWS, COLS>;
        if constexpr (COLS > 1) {
            fill<VECTORS, ROWS, COLS - 1>();
        } else if constexpr (ROWS > 1) {
            fill<VECTORS, ROWS - 1, kLaneCols>();
        } else if constexpr (VECTORS > 1) {
            fill<VECTORS - 1, lane_rows(VECTORS - 1), kLaneCols>();
        }
    }
    constexpr LaneTable() : by_shape{} { fill<kLaneVectors, lane_rows(kLaneVectors), kLaneCols>(); }
};

// Stores a finished tile, `vectors` vectors a pixel, at y: pixels of `rows` rows of `cols`.
template <class T>
void store_lane_tile(const T* tile, const View<T>& y, Index vectors, Index lanes, Index rows,
                     Index cols) {
    constexpr Index kL = kLanes<T>;
    for (Index j = 0; j < vectors; ++j) {
        const Index channels = least(kL, lanes - j * kL);
        T* const to = y.data + j * kL * y.stride[1];
        const auto pixel = [&](Index i) { return tile + (i * vectors + j) * kL; };
        if (y.stride[1] == 1) {
            for (Index i = 0; i < rows * cols; ++i) {
                T* at = to + i / cols * y.stride[2] + i % cols * y.stride[3];
                store_first(at, load(pixel(i)), channels);
            }
        } else if (y.stride[3] == 1 && cols <= kL) {
            // as many rows as fit a vector become lanes together
            const Index together = least(rows, kL / cols);
            for (Index row = 0; row < rows; row += together) {
                const Index count = least(together, rows - row);
                Vec<T> square[kL];
                for (Index i = 0; i < kL; ++i) {
                    square[i] = i < count * cols ? load(pixel(row * cols + i)) : Vec<T>{};
                }
                transpose<T>(square);
                for (Index k = 0; k < channels; ++k) {
                    T* at = to + k * y.stride[1] + row * y.stride[2];
                    for (Index i = 0; i < count; ++i, at += y.stride[2] - cols) {
                        store_lanes(at, square[k], int(i * cols), int((i + 1) * cols));
                    }
                }
            }
        } else {
            for (Index i = 0; i < rows * cols; ++i) {
                T* at = to + i / cols * y.stride[2] + i % cols * y.stride[3];
                for (Index k = 0; k < channels; ++k) at[k * y.stride[1]] = pixel(i)[k];
            }
        }
    }
}

// Computes `rows` x `cols` pixels of y, from the copy of x, for all output channels of a group.
// The weights are those of the group, `bias` too; y.data is at the first pixel and channel.
template <class T>
void lane_block(const LaneTaps<T>& block, const View<T>& y, Index outputs, Index rows, Index cols,
                Activation activation) {
    static constexpr LaneTable<T> functions;
    constexpr Index kL = kLanes<T>;
    alignas(64) T tile[kMostLaneRows * kLaneCols * kLaneVectors * kL];
    const Index pieces = ceil_div(cols, Index(kLaneCols));
    LaneTaps<T> taps = block;
    for (Index k0 = 0; k0 < outputs; k0 += kLaneVectors * kL) {
        taps.lanes = least(kLaneVectors * kL, outputs - k0);
        const Index vectors = ceil_div(taps.lanes, kL), most_rows = lane_rows(int(vectors));
        const Index strips = ceil_div(rows, most_rows);
        for (Index strip = 0; strip < strips; ++strip) {
            const Index p = strip * rows / strips, height = (strip + 1) * rows / strips - p;
            for (Index piece = 0; piece < pieces; ++piece) {
                const Index q = piece * cols / pieces, width = (piece + 1) * cols / pieces - q;
                taps.x = block.x + p * taps.pitch + q;
                functions.by_shape[vectors - 1][height - 1][width - 1](taps, tile);
                if (activation != Activation::kNone) {
                    for (Index i = 0; i < height * width * vectors; ++i) {
                        store(tile + i * kL, activate<T>(load(tile + i * kL), activation));
                    }
                }
                View<T> at = y;
                at.data += k0 * y.stride[1] + p * y.stride[2] + q * y.stride[3];
                store_lane_tile(tile, at, vectors, taps.lanes, height, width);
            }
        }
        taps.w += vectors * kL * taps.depth;
        if (taps.bias) taps.bias += kLaneVectors * kL;
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
