// The register tile of a depthwise convolution: a few output rows of one vector of lanes. Lanes are
// pixels of a row (weights are splats) or channels of a pixel (weights are vectors); the rest is
// the same.
#pragma once

#include "kernels/depthwise_lanes.hpp"
#include "kernels/finish.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Kernels of up to this many rows and columns.
constexpr int kMostTaps = 9;

// One column of the kernel: where its input rows are, for every input row of the tile in turn, and
// what is to be added to each. Where lanes are pixels, all columns have the same rows.
template <class T>
struct ColumnTaps {
    const T* const* rows;
    Index offset;
};

// The operands of one strip: some output rows (as many as the tile has) of `lanes` lanes, of one
// channel or, where lanes are pixels, of a group of `planes` channels.
template <class N>
struct Strip {
    using Pixel = typename N::Pixel;
    using T = typename N::Sum;
    using Result = typename N::Result;
    using Weight = typename N::Weight;
    const ColumnTaps<Pixel>* columns;
    Index column_count, row_count;  // of the kernel
    Index stride, dilation;         // of rows
    const Weight* weights;          // [column][row], a vector each where lanes are channels
    Index weight_pitch;             // from one such vector to the next
    const Result* bias;             // of every lane where lanes are channels, else of all
    bool clamps;                    // y to low, high: relu and relu6
    T low, high;
    Activation later;  // of sums that are rounded before anything else could apply it
    Result* y;
    Index y_pitch;  // from row to row
    Index lanes;
    // From here to where the next strip reads rows in place, and writes; zero: nothing is fetched.
    Index x_ahead, y_ahead;
    // From plane to plane: the rows of `columns`, of which there are `span`, and the other
    // operands.
    const Pixel** rows;
    const Index* row_steps;
    Index span, planes, weight_step, bias_step, y_step;
    // Lanes are pixels that may lie outside of the row: which ones do not, for every vector and
    // kernel column.
    const Mask<T>* masks;
};

// How lanes are loaded: pixels of rows that hold all of them, pixels by masks, channels.
enum class Lanes { kPixels, kMaskedPixels, kChannels };

// Kernels of any columns; 3 columns that are one lane apart; 3 x 3 of stride 2 in both directions.
enum class Pattern { kAny, kUnit, kPairs };

// Adds the products of one kernel column, in the order of its rows, to every row of the tile. An
// input row is loaded once and serves all the output rows that it belongs to.
template <class V, int R, int ROWS, int STRIDE, Lanes LANES>
__attribute__((always_inline)) inline void add_column(typename V::Type (&acc)[ROWS],
                                                      const Strip<typename V::Numbers>& strip,
                                                      const typename V::Numbers::Pixel* const* rows,
                                                      Index offset,
                                                      const typename V::Numbers::Weight* weights,
                                                      Index lane,
                                                      const Mask<typename V::Element>* masks) {
    using Type = typename V::Type;
    using T = typename V::Element;
    const Mask<T> mask = LANES == Lanes::kMaskedPixels ? *masks : Mask<T>{};
    const auto value_at = [&](const auto* row) __attribute__((always_inline)) {
        if constexpr (LANES == Lanes::kMaskedPixels) {
            return V::masked_load(row + offset, mask);
        } else {
            return V::load(row + offset);
        }
    };
    const auto weight_at = [&](Index r) __attribute__((always_inline)) {
        if constexpr (LANES == Lanes::kChannels) {
            return V::load(weights + r * strip.weight_pitch + lane);
        } else {
            return V::splat(weights[r]);
        }
    };
    if constexpr (R > 0) {
        Type weight[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) weight[r] = weight_at(r);
#pragma GCC unroll 32
        for (int i = 0; i < (ROWS - 1) * STRIDE + R; ++i) {
            const Type value = value_at(rows[i]);
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; ++row) {
                const int r = i - row * STRIDE;
                if (r >= 0 && r < R) acc[row] = V::add_product(acc[row], weight[r], value);
            }
        }
    } else {
        for (Index r = 0; r < strip.row_count; ++r, rows += strip.dilation) {
            const Type weight = weight_at(r);
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; ++row) {
                acc[row] = V::add_product(acc[row], weight, value_at(rows[row * strip.stride]));
            }
        }
    }
}

// The same for all three columns of a 3 x 3 kernel of stride 2, in the order of its rows first: a
// row of pixels is loaded once for its even and odd columns.
template <class V, int ROWS, Lanes LANES>
__attribute__((always_inline)) inline void add_pairs(typename V::Type (&acc)[ROWS],
                                                     const Strip<typename V::Numbers>& strip,
                                                     const typename V::Numbers::Weight* weights,
                                                     Index lane,
                                                     const Mask<typename V::Element>* masks) {
    using Type = typename V::Type;
    const auto* const columns = strip.columns;
    Type weight[9];
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) {
        if constexpr (LANES == Lanes::kChannels) {
            weight[i] = V::load(weights + i * strip.weight_pitch + lane);
        } else {
            weight[i] = V::splat(weights[i]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 2 * ROWS + 1; ++i) {
        Type value[3];
        if constexpr (LANES == Lanes::kMaskedPixels) {
            const auto* from = columns->rows[i] + columns->offset + 2 * lane;
            const Type a = V::masked_load(from, masks[0]);
            const Type b = V::masked_load(from + V::kLanes, masks[1]);
            value[0] = V::every_second(a, b, 0);
            value[1] = V::every_second(a, b, 1);
            value[2] = V::next_lane(value[0], V::masked_load(from + 2 * V::kLanes, masks[2]));
        } else {
#pragma GCC unroll 3
            for (int s = 0; s < 3; ++s) {
                value[s] = V::load(columns[s].rows[i] + columns[s].offset + lane);
            }
        }
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) {
            const int r = i - 2 * row;
            if (r < 0 || r > 2) continue;
#pragma GCC unroll 3
            for (int s = 0; s < 3; ++s) {
                acc[row] = V::add_product(acc[row], weight[3 * s + r], value[s]);
            }
        }
    }
}

constexpr unsigned kCacheLine = 64;  // bytes of a cache line

// Loops over whole blocks become vectors of addresses.
constexpr int kRowBlock = 8;

template <class N>
inline void move_rows(const Strip<N>& strip, Index planes) {
    for (Index i = 0; i < strip.span; i += kRowBlock) {
        for (int j = 0; j < kRowBlock; ++j) strip.rows[i + j] += strip.row_steps[i + j] * planes;
    }
}

// Fetches what the next strip reads and writes, while this one is computed.
template <int COUNT, class T>
inline void fetch_x(const T* const* rows, Index offset) {
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; ++i) __builtin_prefetch(rows[i] + offset);
}
template <int ROWS, class T>
inline void fetch_y(T* y, Index pitch) {
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; ++row, y += pitch) __builtin_prefetch(y, 1);
}

// Applies an activation beyond relu to sums that y cannot hold.
template <class T>
__attribute__((noinline)) void activate_sums(T* sums, Index count, Activation activation) {
    finish_row<T>(sums, count, nullptr, 0, activation);
}

// Lanes [first, strip.lanes), vector by vector. The last vector is moved back to end with the
// strip where there is room: what it computes a second time has the same bits. Every element is
// one chain: bias, then column by column, each in the order of its rows (kPairs: row by row).
template <class V, int R, int ROWS, int STRIDE, Lanes LANES, Pattern PATTERN>
void strip_tile(const Strip<typename V::Numbers>& strip, Index first) {
    using T = typename V::Element;
    using Pixel = typename V::Numbers::Pixel;
    using Result = typename V::Result;
    using Weight = typename V::Numbers::Weight;
    using Type = typename V::Type;
    const Index lanes = strip.lanes, column_count = strip.column_count;
    const Index column_weights =
        (R > 0 ? R : strip.row_count) * (LANES == Lanes::kChannels ? strip.weight_pitch : 1);
    const ColumnTaps<Pixel>* const columns = strip.columns;
    const Result* bias = strip.bias;
    const Weight* plane_weights = strip.weights;
    Result* y = strip.y;
    for (Index plane = strip.planes;;) {
        const Mask<T>* mask = strip.masks;
        for (Index lane = first; lane < lanes; lane += V::kLanes) {
            if (lane > 0 && lane + V::kLanes > lanes) lane = lanes - V::kLanes;
            Type acc[ROWS];
            Type start;
            if constexpr (LANES == Lanes::kChannels) {
                start = V::load(bias + lane);
            } else {
                start = V::splat_result(*bias);
            }
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; ++row) acc[row] = start;
            if (LANES == Lanes::kMaskedPixels && strip.x_ahead != 0 &&
                lane * sizeof(T) % kCacheLine < V::kLanes * sizeof(T)) {
                constexpr int kNew = ROWS * STRIDE, kOld = R > STRIDE ? R - STRIDE : 0;
                constexpr int kStep = PATTERN == Pattern::kPairs ? 2 : 1;
                const Index ahead = columns->offset + kStep * lane + strip.x_ahead;
                fetch_x<kNew>(strip.rows + kOld, ahead);
                if (kStep == 2) fetch_x<kNew>(strip.rows + kOld, ahead + kCacheLine / sizeof(T));
                fetch_y<ROWS>(y + lane + strip.y_ahead, strip.y_pitch);
            }
            const Weight* weights = plane_weights;
            const auto add = [&](const Pixel* const* rows, Index offset)
                                 __attribute__((always_inline)) {
                                     add_column<V, R, ROWS, STRIDE, LANES>(acc, strip, rows, offset,
                                                                           weights, lane, mask);
                                     ++mask;
                                     weights += column_weights;
                                 };
            if constexpr (PATTERN == Pattern::kPairs) {
                add_pairs<V, ROWS, LANES>(acc, strip, weights, lane, mask);
                mask += 3;
            } else if constexpr (PATTERN == Pattern::kUnit) {
                const Pixel* rows[(ROWS - 1) * STRIDE + R];
                const Index begin = columns->offset + lane;
#pragma GCC unroll 32
                for (int i = 0; i < (ROWS - 1) * STRIDE + R; ++i)
                    rows[i] = columns->rows[i] + begin;
                add(rows, 0);
                add(rows, 1);
                add(rows, 2);
            } else {
                for (Index s = 0; s < column_count; ++s) {
                    add(columns[s].rows, columns[s].offset + lane);
                }
            }
            if (strip.clamps) {
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; ++row) {
                    acc[row] = V::clamp(acc[row], strip.low, strip.high);
                }
            }
            if constexpr (V::Numbers::rounds) {
                if (strip.later != Activation::kNone) {
                    Type sums[ROWS];
                    for (int row = 0; row < ROWS; ++row) sums[row] = acc[row];
                    activate_sums(reinterpret_cast<T*>(sums), ROWS * V::kLanes, strip.later);
                    for (int row = 0; row < ROWS; ++row) acc[row] = sums[row];
                }
            }
            Result* to = y + lane;
            const Index pitch = strip.y_pitch;
            if (lane + V::kLanes <= lanes) {
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; ++row, to += pitch) V::store(to, acc[row]);
            } else {
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; ++row, to += pitch) {
                    V::store_first(to, acc[row], lanes - lane);
                }
            }
        }
        if (--plane == 0) break;
        move_rows(strip, 1);
        plane_weights += strip.weight_step;
        bias += strip.bias_step;
        y += strip.y_step;
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
