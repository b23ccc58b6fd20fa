// One task of a depthwise convolution: every output channel reads one input channel.
#pragma once

#include "kernels/border.hpp"
#include "kernels/depthwise_tile.hpp"
#include "kernels/finish.hpp"
#include "kernels/kernels.hpp"
#include "kernels/pack.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// A tile reads at most this many consecutive padded rows; see depthwise_fits.
constexpr int kMostSpan = 128;
constexpr int kMostTileRows = 7;
// Scratch that stays in a first-level cache beside the rows of y.
constexpr Index kFirstLevelBytes = 24 << 10;

inline Index row_span(const Problem& problem, Index rows) {
    return (rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1;
}

template <class T>
inline Index whole_lines(Index elements) {
    constexpr Index kLine = 64 / Index(sizeof(T));
    return ceil_div(elements, kLine) * kLine;
}

// Pitch between the vectors of weights of one tap: an odd number of lines, so that the taps of one
// lane lie in different sets of the cache.
template <class T>
inline Index weight_pitch(Index channels) {
    constexpr Index kLine = 64 / Index(sizeof(T));
    return (ceil_div(channels, kLine) | 1) * kLine;
}

// Channels of block `index`: all blocks have a vector at least, the last one what is left over.
template <class T>
inline Index block_begin(const Problem& problem, const DepthwiseCut& cut, Index index) {
    const Index vectors = problem.k / kLanes<T>;
    return index == cut.channel_blocks ? problem.k
                                       : index * vectors / cut.channel_blocks * kLanes<T>;
}

// Widths that depend on the vector and on the sizes of the caches.
template <class T>
void depthwise_geometry(const Problem& problem, DepthwiseCut& cut) {
    constexpr Index kL = kLanes<T>, kBytes = Index(sizeof(T));
    const Index rows = least(problem.p, Index(kMostTileRows));
    cut.channel_lanes = cut.channel_lanes && problem.k == problem.c && problem.k >= kNarrowLanes<T>;
    cut.slots = row_span(problem, rows);
    if (cut.channel_lanes) {
        const Index lines = cut.slots * problem.s + problem.r * problem.s;
        const Index block = most(1, least(8, kFirstLevelBytes / (lines * kL * kBytes)));
        const Index vectors = most(1, problem.k / kL);
        cut.channel_blocks = ceil_div(vectors, block);
        cut.channel_block = ceil_div(vectors, cut.channel_blocks) * kL + kL;
        cut.slot_pitch = weight_pitch<T>(cut.channel_block);
        return;
    }
    const Index reach = (problem.s - 1) * problem.dilation_w;
    const Index phases = least(problem.stride_w, reach + 1);
    const Index extra = reach / problem.stride_w + kL;
    const auto phase_pitch = [&](Index cols) { return whole_lines<T>(cols + extra); };
    const Index room = kFirstLevelBytes / kBytes / (cut.slots + 1) / phases - extra - 64 / kBytes;
    const Index vectors = ceil_div(problem.q, kL);
    cut.col_blocks = ceil_div(vectors, most(1, room / kL));
    cut.col_block = ceil_div(vectors, cut.col_blocks) * kL;
    cut.col_blocks = ceil_div(problem.q, cut.col_block);
    cut.phase_pitch = phase_pitch(least(cut.col_block, problem.q));
    cut.slot_pitch = phases * cut.phase_pitch;
}

template <class T>
Index depthwise_scratch(const Problem& problem, const DepthwiseCut& cut) {
    if (cut.channel_lanes) return (problem.r * problem.s + 2) * cut.slot_pitch;
    return (cut.slots + 1) * cut.slot_pitch + kMostTileRows * whole_lines<T>(cut.col_block);
}

// Weights in the order in which tiles use them: column by column. A vector of channels for each
// tap, or the taps of one channel after another.
template <class T>
void pack_channel_vectors(const Problem& problem, const View<const T>& w, Index first, Index count,
                          T* packed, Index pitch) {
    for (Index k = 0; k < count; ++k) {
        const T* from = w.data + (first + k) * w.stride[0];
        for (Index r = 0; r < problem.r; ++r) {
            for (Index s = 0; s < problem.s; ++s) {
                packed[(s * problem.r + r) * pitch + k] = from[r * w.stride[2] + s * w.stride[3]];
            }
        }
    }
}

template <class T>
void pack_channel(const Problem& problem, const View<const T>& w, Index k, T* packed) {
    const T* from = w.data + k * w.stride[0];
    for (Index s = 0; s < problem.s; ++s) {
        for (Index r = 0; r < problem.r; ++r) {
            *packed++ = from[r * w.stride[2] + s * w.stride[3]];
        }
    }
}

template <class T>
void depthwise_pack(const Problem& problem, const View<const T>& w, T* packed) {
    const Index taps = problem.r * problem.s;
    if (problem.channels_last) {
        const Index pitch = weight_pitch<T>(problem.k);
        for (Index i = 0; i < taps * pitch; ++i) packed[i] = T(0);
        pack_channel_vectors(problem, w, 0, problem.k, packed, pitch);
    } else {
        for (Index k = 0; k < problem.k; ++k) pack_channel(problem, w, k, packed + k * taps);
    }
}

template <class T>
Strip<T> make_strip(const Problem& problem, const ColumnTaps<T>* columns) {
    Strip<T> strip{};
    strip.columns = columns;
    strip.column_count = problem.s;
    strip.row_count = problem.r;
    strip.stride = problem.stride_h;
    strip.dilation = problem.dilation_h;
    const bool clamps =
        problem.activation == Activation::kRelu || problem.activation == Activation::kRelu6;
    strip.low = clamps ? T(0) : -T(__builtin_inf());
    strip.high = problem.activation == Activation::kRelu6 ? T(6) : T(__builtin_inf());
    return strip;
}

// The other activations are applied to a finished strip, which is still in the cache.
inline bool finishes_later(Activation activation) {
    return activation != Activation::kNone && activation != Activation::kRelu &&
           activation != Activation::kRelu6;
}

// The padded input rows that one tile of a channel reads. Consecutive tiles share rows, which are
// copied once.
template <class T>
struct PaddedRows {
    const Problem& problem;
    const DepthwiseCut& cut;
    const T* plane;
    Index row_stride, column_stride;
    Index column, length;  // first padded column, and columns of one phase
    T* slots;
    const T* zero;
    const T* rows[kMostSpan];
    Index first = 0, count = 0, next_slot = 0;

    // Columns of stride_w are copied apart, so that lanes are consecutive for every tap.
    const T* copy(Index row) {
        T* slot = slots + next_slot * cut.slot_pitch;
        next_slot = next_slot + 1 == cut.slots ? 0 : next_slot + 1;
        const Index phases = least(problem.stride_w, (problem.s - 1) * problem.dilation_w + 1);
        for (Index phase = 0; phase < phases; ++phase) {
            const Index from = column + phase;
            const TapRun<T> run{nullptr, from, 0, length,
                                inside_lanes(from, problem.stride_w, length, problem.w)};
            gather_run(slot + phase * cut.phase_pitch, plane + row * row_stride, run, problem,
                       column_stride);
        }
        return slot;
    }

    // Makes rows[0, span) the padded rows from `begin` on; begin never decreases.
    void advance(Index begin, Index span) {
        const Index gone = least(begin - first, count);
        count -= gone;
        for (Index i = 0; i < count; ++i) rows[i] = rows[i + gone];
        first = begin;
        for (; count < span; ++count) {
            const Index row =
                source_index(begin + count - problem.pad_top, problem.h, problem.pad_mode);
            rows[count] = row < 0 ? zero : copy(row);
        }
    }
};

// A block of rows and columns of one output channel.
template <class T>
void plane_block(const DepthwiseJob<T>& job, Index image, Index k, Index p0, Index p1, Index q0,
                 Index q1, const T* weights, T* scratch) {
    const Problem& problem = job.problem;
    const DepthwiseCut& cut = job.cut;
    const View<const T>& x = job.arrays.x;
    const View<T>& y = job.arrays.y;
    T* const zero = scratch;
    T* const slots = zero + cut.slot_pitch;
    T* const buffer = slots + cut.slots * cut.slot_pitch;
    const Index reach = (problem.s - 1) * problem.dilation_w;
    const Index channel = k / (problem.k / problem.groups);
    PaddedRows<T> padded{problem,
                         cut,
                         x.data + image * x.stride[0] + channel * x.stride[1],
                         x.stride[2],
                         x.stride[3],
                         q0 * problem.stride_w - problem.pad_left,
                         q1 - q0 + reach / problem.stride_w,
                         slots,
                         zero,
                         {}};
    ColumnTaps<T> columns[kMostTaps];
    for (Index s = 0; s < problem.s; ++s) {
        const Index at = s * problem.dilation_w;
        columns[s] = {padded.rows, at % problem.stride_w * cut.phase_pitch + at / problem.stride_w};
    }
    const T bias = job.arrays.bias ? job.arrays.bias[k] : T(0);
    Strip<T> strip = make_strip(problem, columns);
    strip.weights = weights;
    strip.bias = &bias;
    strip.lanes = q1 - q0;
    const bool in_place = y.stride[3] == 1;
    const Index buffer_pitch = whole_lines<T>(cut.col_block);
    T* const plane = y.data + image * y.stride[0] + k * y.stride[1] + q0 * y.stride[3];
    const int shape = strip_shape(problem.r, problem.stride_h, problem.dilation_h);
    for (Index p = p0; p < p1;) {
        const int tile = tile_rows(p1 - p);
        const Index rows = kTileRows[tile];
        padded.advance(p * problem.stride_h, row_span(problem, rows));
        for (Index i = 0; i < rows; ++i) {
            strip.y[i] = in_place ? plane + (p + i) * y.stride[2] : buffer + i * buffer_pitch;
        }
        run_strip<T, false>(strip, shape, tile);
        for (Index i = 0; i < rows; ++i) {
            if (finishes_later(problem.activation)) {
                finish_row<T>(strip.y[i], strip.lanes, nullptr, 0, problem.activation);
            }
            if (in_place) continue;
            T* to = plane + (p + i) * y.stride[2];
            for (Index q = 0; q < strip.lanes; ++q) to[q * y.stride[3]] = strip.y[i][q];
        }
        p += rows;
    }
}

template <class T>
void plane_unit(const DepthwiseJob<T>& job, Index unit, T* scratch) {
    const Problem& problem = job.problem;
    const DepthwiseCut& cut = job.cut;
    const Index row_block = unit % cut.row_blocks;
    unit /= cut.row_blocks;
    const Index k = unit % problem.k, image = unit / problem.k;
    const Index p0 = row_block * cut.row_block, p1 = least(problem.p, p0 + cut.row_block);
    const Index taps = problem.r * problem.s;
    T own[kMostTaps * kMostTaps];
    const T* weights = own;
    if (job.arrays.packed && !problem.channels_last) {
        weights = static_cast<const T*>(job.arrays.packed) + k * taps;
    } else {
        pack_channel(problem, job.arrays.w, k, own);
    }
    for (Index q = 0; q < problem.q; q += cut.col_block) {
        plane_block(job, image, k, p0, p1, q, least(problem.q, q + cut.col_block), weights,
                    scratch);
    }
}

// The rows that one tile of channel lanes reads, in place: an image with its channels together
// needs no copy.
template <class T>
struct ImageRows {
    const T* rows[kMostSpan];
    Index inside[kMostSpan];  // all bits set, or none for a row of zeros
    Index span;
    bool all_inside;

    void set(const Problem& problem, const T* image, Index row_stride, Index begin, Index count,
             const T* zero) {
        span = count;
        all_inside = true;
        for (Index i = 0; i < count; ++i) {
            const Index row =
                source_index(begin + i - problem.pad_top, problem.h, problem.pad_mode);
            rows[i] = row < 0 ? zero : image + row * row_stride;
            inside[i] = row < 0 ? 0 : -1;
            all_inside = all_inside && row >= 0;
        }
    }
};

// The columns that one pixel reads: image rows moved to each column.
template <class T>
struct PixelColumns {
    const T* zeros[kMostSpan];
    const T* moved[kMostTaps][kMostSpan];
    ColumnTaps<T> columns[kMostTaps];

    void set(const Problem& problem, const ImageRows<T>& image, Index column_stride, Index q) {
        for (Index s = 0; s < problem.s; ++s) {
            const Index column =
                source_index(q * problem.stride_w - problem.pad_left + s * problem.dilation_w,
                             problem.w, problem.pad_mode);
            if (column < 0) {
                columns[s] = {zeros, 0};
            } else if (image.all_inside) {
                columns[s] = {image.rows, column * column_stride};
            } else {
                const Index offset = column * column_stride;
                for (Index i = 0; i < image.span; ++i) {
                    moved[s][i] = image.rows[i] + (offset & image.inside[i]);
                }
                columns[s] = {moved[s], 0};
            }
        }
    }
};

template <class T>
void channel_unit(const DepthwiseJob<T>& job, Index unit, T* scratch) {
    const Problem& problem = job.problem;
    const DepthwiseCut& cut = job.cut;
    const View<const T>& x = job.arrays.x;
    const View<T>& y = job.arrays.y;
    const Index channel_block = unit % cut.channel_blocks;
    unit /= cut.channel_blocks;
    const Index row_block = unit % cut.row_blocks, image = unit / cut.row_blocks;
    const Index p0 = row_block * cut.row_block, p1 = least(problem.p, p0 + cut.row_block);
    const Index k0 = block_begin<T>(problem, cut, channel_block);
    const Index lanes = block_begin<T>(problem, cut, channel_block + 1) - k0;

    T* const zero = scratch;
    PixelColumns<T> pixel;
    for (Index i = 0; i < cut.slots; ++i) pixel.zeros[i] = zero;
    Strip<T> strip = make_strip(problem, pixel.columns);
    strip.lanes = lanes;
    strip.bias = job.arrays.bias ? job.arrays.bias + k0 : zero;
    if (job.arrays.packed && problem.channels_last) {
        strip.weight_pitch = weight_pitch<T>(problem.k);
        strip.weights = static_cast<const T*>(job.arrays.packed) + k0;
    } else {
        T* const packed = zero + 2 * cut.slot_pitch;
        strip.weight_pitch = cut.slot_pitch;
        strip.weights = packed;
        pack_channel_vectors(problem, job.arrays.w, k0, lanes, packed, strip.weight_pitch);
    }
    const T* const from = x.data + image * x.stride[0] + k0;
    T* const to = y.data + image * y.stride[0] + k0;
    const int shape = strip_shape(problem.r, problem.stride_h, problem.dilation_h);
    ImageRows<T> rows;
    for (Index p = p0; p < p1;) {
        const int tile = tile_rows(p1 - p);
        const Index height = kTileRows[tile];
        rows.set(problem, from, x.stride[2], p * problem.stride_h, row_span(problem, height), zero);
        for (Index q = 0; q < problem.q; ++q) {
            pixel.set(problem, rows, x.stride[3], q);
            for (Index i = 0; i < height; ++i) {
                strip.y[i] = to + (p + i) * y.stride[2] + q * y.stride[3];
            }
            run_strip<T, true>(strip, shape, tile);
            if (!finishes_later(problem.activation)) continue;
            for (Index i = 0; i < height; ++i) {
                finish_row<T>(strip.y[i], lanes, nullptr, 0, problem.activation);
            }
        }
        p += height;
    }
}

template <class T>
void depthwise_task(const DepthwiseJob<T>& job, Index task, T* scratch) {
    const DepthwiseCut& cut = job.cut;
    fill_zero(scratch, cut.slot_pitch);
    const Index begin = task * cut.task_units, end = least(cut.units, begin + cut.task_units);
    for (Index unit = begin; unit < end; ++unit) {
        if (cut.channel_lanes) {
            channel_unit(job, unit, scratch);
        } else {
            plane_unit(job, unit, scratch);
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
