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
constexpr int kLaneCols = 7, kLaneVectors = 2, kLaneRows = 2;
// Longer rows fill vectors of pixels.
constexpr Index kLongestLaneRow = 64, kLargestLanes = 64 / 4;
#if defined(__AVX512F__)
constexpr bool kHasChannelLanes = true;
#else
constexpr bool kHasChannelLanes = false;  // narrower vectors leave few lanes empty
#endif
// Vectors of pixels on their way to y: those of a strip of rows, and a whole vector of earlier
// ones.
constexpr Index kLaneBuffer = kLaneVectors * (kLaneRows * kLongestLaneRow + kLargestLanes);
static_assert(kLaneCols * kLaneRows * kLaneVectors + kLaneVectors + 1 <= 32, "32 registers");
// Output channels as lanes where that fills them better by this factor.
constexpr double kLanesGain = 1.05;

// Elements of the packed weights of one group, [set of vectors][step][lane]; 0 where pixels are the
// better lanes.
template <class T>
Index lane_weights(const Problem& problem) {
    if (!kHasChannelLanes || problem.q > kLongestLaneRow) return 0;
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

// Pixels of the tile go to `out`, VECTORS vectors each, rows `out_pitch` elements apart.
template <class T, int VECTORS, int ROWS, int COLS>
void lane_tile(const LaneTaps<T>& in, T* out, Index out_pitch) {
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
#pragma GCC unroll 2
        for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 7
            for (int col = 0; col < COLS; ++col) {
                const Vec<T> pixel = splat(x[row * pitch + col]);
#pragma GCC unroll 2
                for (int j = 0; j < VECTORS; ++j) acc[row * COLS + col][j] += pixel * weights[j];
            }
        }
    }
#pragma GCC unroll 2
    for (int row = 0; row < ROWS; ++row, out += out_pitch) {
#pragma GCC unroll 7
        for (int col = 0; col < COLS; ++col) {
#pragma GCC unroll 2
            for (int j = 0; j < VECTORS; ++j) {
                store(out + (col * VECTORS + j) * kL, acc[row * COLS + col][j]);
            }
        }
    }
}

template <class T>
using LaneFunction = void (*)(const LaneTaps<T>&, T*, Index);

// The tile functions, by number of vectors, rows and columns (all counted from one).
template <class T>
struct LaneTable {
    LaneFunction<T> by_shape[kLaneVectors][kLaneRows][kLaneCols];

    template <int VECTORS, int ROWS, int COLS>
    constexpr void fill() {
        by_shape[VECTORS - 1][ROWS - 1][COLS - 1] = lane_tile<T, VECTORS, ROWS, COLS>;
        if constexpr (COLS > 1) {
            fill<VECTORS, ROWS, COLS - 1>();
        } else if constexpr (ROWS > 1) {
            fill<VECTORS, ROWS - 1, kLaneCols>();
        } else if constexpr (VECTORS > 1) {
            fill<VECTORS - 1, kLaneRows, kLaneCols>();
        }
    }
    constexpr LaneTable() : by_shape{} { fill<kLaneVectors, kLaneRows, kLaneCols>(); }
};

// Finished pixels on their way to y, `vectors` vectors of output channels each.
template <class T>
struct LanePixels {
    T* pixels;
    Index vectors, channels;  // of a pixel; lanes beyond the channels are not stored
};

// Stores up to kLanes pixels, which follow each other in the planes of y.
template <class T>
void store_turned(const LanePixels<T>& from, Index first, Index count, T* to, Index channel_pitch) {
    constexpr Index kL = kLanes<T>;
    const Index pitch = from.vectors * kL;
    for (Index j = 0; j < from.vectors; ++j) {
        const T* at = from.pixels + first * pitch + j * kL;
        Vec<T> square[kL];
#pragma GCC unroll 16
        for (Index i = 0; i < kL; ++i) square[i] = load(at + i * pitch);
        transpose<T>(square);
        const Index channels = from.channels - j * kL;
#pragma GCC unroll 16
        for (Index k = 0; k < kL; ++k) {
            if (k == channels) return;
            store_first(to, square[k], count);
            to += channel_pitch;
        }
    }
}

// Stores pixels [first, count) of a run, of which pixel 0 goes to `to` and the others follow it in
// y. Where pixels become lanes, those that do not fill a vector wait, unless they are the last.
// Returns how many are stored then.
template <class T>
Index store_run(const LanePixels<T>& from, Index first, Index count, T* to, const View<T>& y,
                bool last) {
    constexpr Index kL = kLanes<T>;
    if (y.stride[3] == 1 && y.stride[1] != 1) {
        for (; first + kL <= count; first += kL) {
            store_turned(from, first, kL, to + first, y.stride[1]);
        }
        if (!last || first == count) return first;
        // some of them once more, rather than parts of vectors
        first = most(0, count - kL);
        store_turned(from, first, count - first, to + first, y.stride[1]);
        return count;
    }
    for (; first < count; ++first) {
        const T* at = from.pixels + first * from.vectors * kL;
        T* pixel = to + first * y.stride[3];
        if (y.stride[1] == 1) {
            for (Index k = 0; k < from.channels; k += kL) {
                store_first(pixel + k, load(at + k), least(kL, from.channels - k));
            }
        } else {
            for (Index k = 0; k < from.channels; ++k) pixel[k * y.stride[1]] = at[k];
        }
    }
    return count;
}

// Stores `rows` x `cols` new pixels that follow the `kept` ones in the buffer. `first`, `to` and
// `kept` belong to a run that goes on over all rows.
template <class T>
struct LaneStore {
    LanePixels<T> from;
    const View<T>& y;
    T* to;
    bool rows_follow;  // in y
    Index first = 0, kept = 0;

    T* room() const { return from.pixels + kept * from.vectors * kLanes<T>; }

    // y is fetched while its pixels are computed: the stores would wait for memory
    void fetch(Index rows, Index cols) const {
        if (!rows_follow || y.stride[3] != 1) return;
        constexpr Index kLine = 64 / Index(sizeof(T));
        for (Index k = 0; k < from.channels; ++k) {
            const T* line = to + kept + k * y.stride[1];
            for (Index i = 0; i < rows * cols; i += kLine) __builtin_prefetch(line + i, 1);
        }
    }

    void put(Index rows, Index cols, bool last) {
        constexpr Index kL = kLanes<T>;
        if (!rows_follow) {
            for (Index row = 0; row < rows; ++row, to += y.stride[2]) {
                const LanePixels<T> pixels{from.pixels + row * cols * from.vectors * kL,
                                           from.vectors, from.channels};
                store_run(pixels, Index(0), cols, to, y, true);
            }
            return;
        }
        const Index count = kept + rows * cols;
        first = store_run(from, first, count, to, y, last);
        // a whole vector stays, in case the run ends before it has another one
        kept = first == count ? 0 : least(kL, count);
        const Index gone = count - kept;
        for (Index i = 0; i < kept * from.vectors; ++i) {
            store(from.pixels + i * kL, load(from.pixels + (gone * from.vectors + i) * kL));
        }
        first -= gone;
        to += gone * y.stride[3];
    }
};

// Computes `rows` x `cols` pixels of y, from the copy of x, for all output channels of a group.
// The weights are those of the group, `bias` too; y.data is at the first pixel and channel.
template <class T>
void lane_block(const LaneTaps<T>& block, const View<T>& y, Index outputs, Index rows, Index cols,
                Activation activation) {
    static constexpr LaneTable<T> functions;
    constexpr Index kL = kLanes<T>;
    alignas(64) T buffer[kLaneBuffer * kL];
    const Index pieces = ceil_div(cols, Index(kLaneCols));
    LaneTaps<T> taps = block;
    for (Index k0 = 0; k0 < outputs; k0 += kLaneVectors * kL) {
        taps.lanes = least(kLaneVectors * kL, outputs - k0);
        const Index vectors = ceil_div(taps.lanes, kL), strips = ceil_div(rows, Index(kLaneRows));
        LaneStore<T> finished{{buffer, vectors, taps.lanes},
                              y,
                              y.data + k0 * y.stride[1],
                              y.stride[2] == cols * y.stride[3]};
        for (Index strip = 0; strip < strips; ++strip) {
            const Index p = strip * rows / strips, height = (strip + 1) * rows / strips - p;
            T* const to = finished.room();
            finished.fetch(height, cols);
            for (Index piece = 0; piece < pieces; ++piece) {
                const Index q = piece * cols / pieces, width = (piece + 1) * cols / pieces - q;
                taps.x = block.x + p * taps.pitch + q;
                functions.by_shape[vectors - 1][height - 1][width - 1](taps, to + q * vectors * kL,
                                                                       cols * vectors * kL);
            }
            if (activation != Activation::kNone) {
                for (Index i = 0; i < height * cols * vectors; ++i) {
                    store(to + i * kL, activate<T>(load(to + i * kL), activation));
                }
            }
            finished.put(height, cols, strip + 1 == strips);
        }
        taps.w += vectors * kL * taps.depth;
        if (taps.bias) taps.bias += kLaneVectors * kL;
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
