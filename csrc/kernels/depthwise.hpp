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

// Which padded rows of an image a tile reads: offsets of rows, or of a row of zeros. Offsets are in
// bytes, so that rows of zeros elsewhere in memory cost no branch.
struct RowOffsets {
    Index offset[kMostSpan];
    Index inside[kMostSpan];  // all bits set, or none for a row of zeros
    Index begin = -1, span = 0;
    bool all_inside = false;

    void set(const Problem& problem, Index pitch_bytes, Index first, Index count) {
        if (first == begin && count == span) return;
        begin = first;
        span = count;
        all_inside = true;
        for (Index i = 0; i < count; ++i) {
            const Index row =
                source_index(first + i - problem.pad_top, problem.h, problem.pad_mode);
            offset[i] = row < 0 ? 0 : row * pitch_bytes;
            inside[i] = row < 0 ? 0 : -1;
            all_inside = all_inside && row >= 0;
        }
    }

    // rows[i]: row i of the image at `base`, or the zeros.
    template <class T>
    void place(const T* base, const T* zeros, const T** rows) const {
        const Index zero = reinterpret_cast<Index>(zeros);
        const Index away = reinterpret_cast<Index>(base) - zero;
        for (Index i = 0; i < span; ++i) {
            rows[i] = reinterpret_cast<const T*>(zero + ((away + offset[i]) & inside[i]));
        }
    }
};

// Elements [column, column + lanes) of a row of `size`; those outside are zero and not touched.
template <class T>
inline Vec<T> load_inside(const T* row, Index column, Index size) {
    constexpr Index kL = kLanes<T>;
    if (column >= 0 && column + kL <= size) return load(row + column);
    const Index begin = least(most(-column, 0), kL);
    const Index end = most(least(size - column, kL), begin);
    if constexpr (kHasMaskedLoad) {
        return masked_load(row + column, lane_mask<T>(int(begin), int(end)));
    }
    Vec<T> v{};
    for (Index i = begin; i < end; ++i) v[i] = row[column + i];
    return v;
}

template <class T>
inline Vec<T> every_second(Vec<T> a, Vec<T> b, int first) {
    IntVec<T> lane;
    for (int i = 0; i < kLanes<T>; ++i) lane[i] = 2 * i + first;
    return __builtin_shuffle(a, b, lane);
}

// What the tiles of all output channels have in common where lanes are pixels: one block of
// columns of the problem.
template <class T>
struct PlaneGeometry {
    static constexpr Index kMostVectors = 64;

    const Problem& problem;
    const DepthwiseCut& cut;
    Index q0, lanes;
    Index column;          // of x, for the first lane and tap
    Index length, phases;  // of a row in scratch
    bool direct;           // x is read in place
    StripCut<T> strip_cut;
    Index offsets[kMostTaps];
    Inside inside[kMostTaps];  // of each phase
    Mask<T> masks[kMostVectors * kMostTaps];

    PlaneGeometry(const DepthwiseJob<T>& job, Index first, Index last)
        : problem(job.problem),
          cut(job.cut),
          q0(first),
          lanes(last - first),
          column(first * problem.stride_w - problem.pad_left),
          strip_cut(lanes, false) {
        const Index reach = (problem.s - 1) * problem.dilation_w;
        const Index step = problem.stride_w;
        length = lanes + reach / step;
        phases = least(step, reach + 1);
        for (Index phase = 0; phase < phases; ++phase) {
            inside[phase] = inside_lanes(column + phase, step, length, problem.w);
        }
        const bool framed = column >= 0 && column + reach + lanes <= problem.w;
        const Index pitch = job.arrays.x.stride[2] * Index(sizeof(T));
        // rows a multiple of a page apart would push each other out of the cache
        direct = kHasMaskedLoad && step == 1 && job.arrays.x.stride[3] == 1 &&
                 (framed || problem.pad_mode == PadMode::kConstant) && pitch % 4096 != 0 &&
                 strip_cut.full_vectors() < kMostVectors;
        for (Index s = 0; s < problem.s; ++s) {
            const Index at = s * problem.dilation_w;
            offsets[s] = direct ? at : at % step * cut.phase_pitch + at / step;
        }
        if (!direct) return;
        const Index vectors = strip_cut.full_vectors();
        for (Index v = 0; v < vectors; ++v) {
            const Index lane = least(v * kLanes<T>, most(strip_cut.full - kLanes<T>, 0));
            fill_masks(masks + v * problem.s, lane, kLanes<T>);
        }
        if (strip_cut.narrow) {
            fill_masks(masks + vectors * problem.s, strip_cut.narrow_first, kNarrowLanes<T>);
        }
    }

    void fill_masks(Mask<T>* to, Index lane, Index count) const {
        for (Index s = 0; s < problem.s; ++s) {
            const Index from = column + lane + s * problem.dilation_w;
            const Index begin = least(most(-from, 0), count);
            to[s] = lane_mask<T>(int(begin), int(most(least(problem.w - from, count), begin)));
        }
    }
};

// The padded input rows that one tile of a channel reads. Consecutive tiles share rows, which are
// copied once.
template <class T>
struct CopiedRows {
    const PlaneGeometry<T>& geometry;
    const T* plane;
    Index row_stride, column_stride;
    T* slots;
    const T* zeros;
    const T** rows;
    Index first = 0, count = 0, next_slot = 0;

    // Columns of stride_w are copied apart, so that lanes are consecutive for every tap.
    const T* copy(Index row) {
        const Problem& problem = geometry.problem;
        T* slot = slots + next_slot * geometry.cut.slot_pitch;
        next_slot = next_slot + 1 == geometry.cut.slots ? 0 : next_slot + 1;
        const T* const from = plane + row * row_stride;
        const Index pitch = geometry.cut.phase_pitch, length = geometry.length;
        constexpr Index kL = kLanes<T>;
        if (column_stride == 1 && problem.stride_w == 1) {
            for (Index i = 0; i < length; i += kL) {
                store(slot + i, load_inside(from, geometry.column + i, problem.w));
            }
        } else if (column_stride == 1 && problem.stride_w == 2) {
            for (Index i = 0; i < length; i += kL) {
                const Index column = geometry.column + 2 * i;
                const Vec<T> a = load_inside(from, column, problem.w);
                const Vec<T> b = load_inside(from, column + kL, problem.w);
                store(slot + i, every_second<T>(a, b, 0));
                if (geometry.phases > 1) store(slot + pitch + i, every_second<T>(a, b, 1));
            }
        } else {
            for (Index phase = 0; phase < geometry.phases; ++phase) {
                gather(slot + phase * pitch, from, phase);
            }
        }
        if (problem.pad_mode != PadMode::kConstant) fill_border(slot, from);
        return slot;
    }

    void gather(T* to, const T* from, Index phase) const {
        const Inside inside = geometry.inside[phase];
        const Index step = geometry.problem.stride_w;
        fill_zero(to, inside.begin);
        fill_zero(to + inside.end, geometry.length - inside.end);
        copy_strided(to + inside.begin,
                     from + (geometry.column + phase + inside.begin * step) * column_stride,
                     step * column_stride, inside.end - inside.begin);
    }

    void fill_border(T* slot, const T* from) const {
        const Problem& problem = geometry.problem;
        for (Index phase = 0; phase < geometry.phases; ++phase) {
            const Inside inside = geometry.inside[phase];
            T* to = slot + phase * geometry.cut.phase_pitch;
            for (Index i = 0; i < geometry.length; ++i) {
                if (i == inside.begin) i = inside.end;
                if (i >= geometry.length) break;
                const Index at = geometry.column + phase + i * problem.stride_w;
                to[i] = from[source_index(at, problem.w, problem.pad_mode) * column_stride];
            }
        }
    }

    // Makes rows[0, span) the padded rows from `begin` on; begin never decreases.
    void advance(Index begin, Index span) {
        const Problem& problem = geometry.problem;
        const Index gone = least(begin - first, count);
        count -= gone;
        for (Index i = 0; i < count; ++i) rows[i] = rows[i + gone];
        first = begin;
        for (; count < span; ++count) {
            const Index row =
                source_index(begin + count - problem.pad_top, problem.h, problem.pad_mode);
            rows[count] = row < 0 ? zeros : copy(row);
        }
    }
};

// Units of a task where lanes are pixels: blocks of rows of output channels.
template <class T>
struct PlaneTask {
    const DepthwiseJob<T>& job;
    const PlaneGeometry<T>& geometry;
    T* zeros;
    T* slots;
    T* buffer;
    Index buffer_pitch;
    const T* rows[kMostSpan];
    ColumnTaps<T> columns[kMostTaps];
    RowOffsets offsets;
    T own_weights[kMostTaps * kMostTaps];

    PlaneTask(const DepthwiseJob<T>& all, const PlaneGeometry<T>& block, T* scratch)
        : job(all),
          geometry(block),
          zeros(scratch),
          slots(zeros + all.cut.slot_pitch),
          buffer(slots + all.cut.slots * all.cut.slot_pitch),
          buffer_pitch(whole_lines<T>(all.cut.col_block)) {
        for (Index s = 0; s < job.problem.s; ++s) columns[s] = {rows, geometry.offsets[s]};
    }

    const T* weights(Index k) {
        const Index taps = job.problem.r * job.problem.s;
        if (job.arrays.packed && !job.problem.channels_last) {
            return static_cast<const T*>(job.arrays.packed) + k * taps;
        }
        pack_channel(job.problem, job.arrays.w, k, own_weights);
        return own_weights;
    }

    void run(Index image, Index channel, Index k, Index p0, Index p1) {
        const Problem& problem = job.problem;
        const View<const T>& x = job.arrays.x;
        const View<T>& y = job.arrays.y;
        const T bias = job.arrays.bias ? job.arrays.bias[k] : T(0);
        Strip<T> strip = make_strip(problem, columns);
        strip.weights = weights(k);
        strip.bias = &bias;
        strip.lanes = geometry.lanes;
        strip.masks = geometry.masks;
        const T* const from = x.data + image * x.stride[0] + channel * x.stride[1];
        T* const to = y.data + image * y.stride[0] + k * y.stride[1] + geometry.q0 * y.stride[3];
        CopiedRows<T> copied{geometry, from, x.stride[2], x.stride[3], slots, zeros, rows};
        const int shape = strip_shape(problem.r, problem.stride_h, problem.dilation_h);
        for (Index p = p0; p < p1;) {
            const int tile = tile_rows(p1 - p);
            const Index count = kTileRows[tile];
            for (Index i = 0; i < count; ++i) {
                strip.y[i] =
                    y.stride[3] == 1 ? to + (p + i) * y.stride[2] : buffer + i * buffer_pitch;
            }
            const Index span = row_span(problem, count);
            if (geometry.direct) {
                offsets.set(problem, x.stride[2] * Index(sizeof(T)), p * problem.stride_h, span);
                offsets.place(from + geometry.column, zeros, rows);
                run_strip<T, Lanes::kMaskedPixels>(strip, geometry.strip_cut, shape, tile);
            } else {
                copied.advance(p * problem.stride_h, span);
                run_strip<T, Lanes::kPixels>(strip, geometry.strip_cut, shape, tile);
            }
            finish(strip, count, to + p * y.stride[2]);
            p += count;
        }
    }

    void finish(const Strip<T>& strip, Index count, T* to) const {
        const View<T>& y = job.arrays.y;
        const bool later = finishes_later(job.problem.activation);
        if (!later && y.stride[3] == 1) return;
        for (Index i = 0; i < count; ++i, to += y.stride[2]) {
            T* const row = strip.y[i];
            if (later) finish_row<T>(row, strip.lanes, nullptr, 0, job.problem.activation);
            if (y.stride[3] == 1) continue;
            for (Index q = 0; q < strip.lanes; ++q) to[q * y.stride[3]] = row[q];
        }
    }
};

template <class T>
void plane_units(const DepthwiseJob<T>& job, Index begin, Index end, T* scratch) {
    const Problem& problem = job.problem;
    const DepthwiseCut& cut = job.cut;
    const Index multiplier = problem.k / problem.groups;
    for (Index q = 0; q < problem.q; q += cut.col_block) {
        const PlaneGeometry<T> geometry(job, q, least(problem.q, q + cut.col_block));
        PlaneTask<T> task(job, geometry, scratch);
        Index row_block = begin % cut.row_blocks;
        Index k = begin / cut.row_blocks % problem.k, image = begin / cut.row_blocks / problem.k;
        Index channel = k / multiplier, copy = k % multiplier;
        for (Index unit = begin; unit < end; ++unit) {
            const Index p = row_block * cut.row_block;
            task.run(image, channel, k, p, least(problem.p, p + cut.row_block));
            if (++row_block < cut.row_blocks) continue;
            row_block = 0;
            ++k;
            if (++copy == multiplier) {
                copy = 0;
                ++channel;
            }
            if (k == problem.k) {
                k = channel = 0;
                ++image;
            }
        }
    }
}

// The columns that one pixel reads, where lanes are channels: image rows moved to each column.
template <class T>
struct PixelColumns {
    const T* zeros[kMostSpan];
    const T* rows[kMostSpan];
    const T* moved[kMostTaps][kMostSpan];
    ColumnTaps<T> columns[kMostTaps];

    void set(const Problem& problem, const RowOffsets& offsets, const T* image, Index column_stride,
             Index q) {
        for (Index s = 0; s < problem.s; ++s) {
            const Index column =
                source_index(q * problem.stride_w - problem.pad_left + s * problem.dilation_w,
                             problem.w, problem.pad_mode);
            if (column < 0) {
                columns[s] = {zeros, 0};
            } else if (offsets.all_inside) {
                columns[s] = {rows, column * column_stride};
            } else {
                offsets.place(image + column * column_stride, zeros[0], moved[s]);
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

    T* const zeros = scratch;
    PixelColumns<T> pixel;
    for (Index i = 0; i < cut.slots; ++i) pixel.zeros[i] = zeros;
    Strip<T> strip = make_strip(problem, pixel.columns);
    strip.lanes = lanes;
    strip.bias = job.arrays.bias ? job.arrays.bias + k0 : zeros;
    if (job.arrays.packed && problem.channels_last) {
        strip.weight_pitch = weight_pitch<T>(problem.k);
        strip.weights = static_cast<const T*>(job.arrays.packed) + k0;
    } else {
        T* const packed = zeros + 2 * cut.slot_pitch;
        strip.weight_pitch = cut.slot_pitch;
        strip.weights = packed;
        pack_channel_vectors(problem, job.arrays.w, k0, lanes, packed, strip.weight_pitch);
    }
    const T* const from = x.data + image * x.stride[0] + k0;
    T* const to = y.data + image * y.stride[0] + k0;
    const int shape = strip_shape(problem.r, problem.stride_h, problem.dilation_h);
    const StripCut<T> strip_cut(lanes, true);
    RowOffsets offsets;
    for (Index p = p0; p < p1;) {
        const int tile = tile_rows(p1 - p);
        const Index count = kTileRows[tile];
        offsets.set(problem, x.stride[2] * Index(sizeof(T)), p * problem.stride_h,
                    row_span(problem, count));
        offsets.place(from, zeros, pixel.rows);
        for (Index q = 0; q < problem.q; ++q) {
            pixel.set(problem, offsets, from, x.stride[3], q);
            for (Index i = 0; i < count; ++i) {
                strip.y[i] = to + (p + i) * y.stride[2] + q * y.stride[3];
            }
            run_strip<T, Lanes::kChannels>(strip, strip_cut, shape, tile);
            if (!finishes_later(problem.activation)) continue;
            for (Index i = 0; i < count; ++i) {
                finish_row<T>(strip.y[i], lanes, nullptr, 0, problem.activation);
            }
        }
        p += count;
    }
}

template <class T>
void depthwise_task(const DepthwiseJob<T>& job, Index task, T* scratch) {
    const DepthwiseCut& cut = job.cut;
    fill_zero(scratch, cut.slot_pitch);
    const Index begin = task * cut.task_units, end = least(cut.units, begin + cut.task_units);
    if (!cut.channel_lanes) return plane_units(job, begin, end, scratch);
    for (Index unit = begin; unit < end; ++unit) channel_unit(job, unit, scratch);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
