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
template <class T>
inline Index block_begin(const Problem& problem, const DepthwiseCut& cut, Index index) {
    const Index vectors = problem.k / kLanes<T>;
    return index == cut.channel_blocks ? problem.k
                                       : index * vectors / cut.channel_blocks * kLanes<T>;
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

template <class T>
Index depthwise_scratch(const Problem& problem, const DepthwiseCut& cut) {
    if (cut.channel_lanes) return (problem.r * problem.s + 2) * cut.slot_pitch;
    return (cut.planes * cut.slots + 1) * cut.slot_pitch +
           kMostTileRows * whole_lines<T>(cut.col_block);
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
    strip.planes = 1;
    strip.clamps = clamps;
    strip.low = clamps ? T(0) : -T(__builtin_inf());
    strip.high = problem.activation == Activation::kRelu6 ? T(6) : T(__builtin_inf());
    return strip;
}

// The other activations are applied to a finished strip, which is still in the cache.
inline bool finishes_later(Activation activation) {
    return activation != Activation::kNone && activation != Activation::kRelu &&
           activation != Activation::kRelu6;
}

// Which padded rows of an image a tile reads: offsets in bytes of the rows, or of a row of zeros,
// which costs no branch. Loops run over whole blocks, for the compiler to turn into vectors.
struct RowOffsets {
    static constexpr int kBlock = kRowBlock;
    static_assert(kMostSpan % kBlock == 0, "whole blocks");
    Index offset[kMostSpan];
    Index inside[kMostSpan];  // all bits set, or none for a row of zeros
    Index begin = 0, span = 0;
    bool all_inside = false;

    void set(const Problem& problem, Index pitch_bytes, Index first, Index count) {
        if (first == begin && count == span) return;
        begin = first;
        span = count;
        const Index row0 = first - problem.pad_top, size = problem.h;
        all_inside = row0 >= 0 && row0 + count <= size;
        for (Index i = 0; i < count; i += kBlock) {
            for (int j = 0; j < kBlock; ++j) {
                const Index row = row0 + i + j;
                offset[i + j] = row * pitch_bytes;
                inside[i + j] = -Index(row >= 0 && row < size);
            }
        }
        if (all_inside || problem.pad_mode == PadMode::kConstant) return;
        all_inside = true;
        for (Index i = 0; i < count; ++i) {
            offset[i] = source_index(row0 + i, size, problem.pad_mode) * pitch_bytes;
            inside[i] = -1;
        }
    }

    // rows[i]: row i of the image at `base`, or the zeros.
    template <class T>
    void place(const T* base, const T* zeros, const T** rows) const {
        const Index zero = reinterpret_cast<Index>(zeros);
        const Index away = reinterpret_cast<Index>(base) - zero;
        for (Index i = 0; i < span; i += kBlock) {
            for (int j = i; j < i + kBlock; ++j) {
                rows[j] = reinterpret_cast<const T*>(zero + ((away + offset[j]) & inside[j]));
            }
        }
    }
};

// The same for rows that are needed once, and how they move from plane to plane.
template <class T>
inline void place_rows(const Problem& problem, const T* base, Index pitch, Index first, Index step,
                       const T* zeros, Strip<T>& strip, Index* steps) {
    const Index row0 = first - problem.pad_top, size = problem.h;
    const bool constant = problem.pad_mode == PadMode::kConstant;
    for (Index i = 0; i < strip.span; ++i) {
        Index row = row0 + i;
        if (!constant) row = source_index(row, size, problem.pad_mode);
        const bool inside = row >= 0 && row < size;
        strip.rows[i] = inside ? base + row * pitch : zeros;
        steps[i] = inside ? step : 0;
    }
}

template <class T>
inline Vec<T> every_second(Vec<T> a, Vec<T> b, int first) {
    IntVec<T> lane;
    for (int i = 0; i < kLanes<T>; ++i) lane[i] = 2 * i + first;
    return __builtin_shuffle(a, b, lane);
}

// Even lanes, then odd ones.
template <class T>
inline Vec<T> halves(Vec<T> a) {
    constexpr int kL = kLanes<T>;
    IntVec<T> lane;
    for (int i = 0; i < kL; ++i) lane[i] = i < kL / 2 ? 2 * i : 2 * i + 1 - kL;
    return __builtin_shuffle(a, lane);
}

// What the tiles of all output channels have in common where lanes are pixels: one block of
// columns of the problem.
template <class T>
struct PlaneGeometry {
    const Problem& problem;
    const DepthwiseCut& cut;
    Index q0, lanes;
    Index column;  // of x, for the first lane and tap
    Index planes;  // computed together
    bool direct;   // x is read in place
    bool pairs;    // and every vector of pixels is picked from two of x
    // A row in scratch: its columns, stride_w apart, in each of the phases.
    Index length, phases;
    Index copied_vectors;  // of one phase, or zero where elements are copied one by one
    StripCut<T> strip_cut;
    Index offsets[kMostTaps];
    Inside inside[kMostTaps];  // of each phase
    Mask<T> masks[(kMostVectors + 1) * kMostTaps];
    Mask<T> copy_masks[2 * kMostVectors];  // of the vectors of a row to copy

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
        const bool framed = column >= 0 && column + (lanes - 1) * step + reach < problem.w;
        const Index pitch = job.arrays.x.stride[2] * Index(sizeof(T));
        // rows a multiple of a page apart would push each other out of the cache
        pairs = strip_shape(problem, false) == kPairsShape;
        direct = kHasMaskedLoad && (step == 1 || pairs) && job.arrays.x.stride[3] == 1 &&
                 (framed || problem.pad_mode == PadMode::kConstant) && pitch % 4096 != 0 &&
                 strip_cut.full_vectors() <= kMostVectors;
        planes = direct ? group_planes(cut.slots * problem.w * Index(sizeof(T))) : cut.planes;
        copied_vectors = ceil_div(length, kLanes<T>);
        if (job.arrays.x.stride[3] != 1 || step > 2 || copied_vectors * step > 2 * kMostVectors) {
            copied_vectors = 0;
        }
        for (Index s = 0; s < problem.s; ++s) {
            const Index at = s * problem.dilation_w;
            offsets[s] = direct ? at : at % step * cut.phase_pitch + at / step;
        }
        if (!direct) {
            for (Index i = 0; i < copied_vectors * step; ++i) {
                copy_masks[i] = inside_mask(column + i * kLanes<T>, kLanes<T>);
            }
            return;
        }
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
            to[s] = pairs ? inside_mask(column + 2 * lane + s * count, count)
                          : inside_mask(column + lane + s * problem.dilation_w, count);
        }
    }

    Mask<T> inside_mask(Index from, Index count) const {
        const Index begin = least(most(-from, 0), count);
        return lane_mask<T>(int(begin), int(most(least(problem.w - from, count), begin)));
    }
};

// Elements [column, column + lanes) of a row of `size`; those outside are zero and not touched.
template <class T>
inline Vec<T> load_inside(const T* row, Index column, Index size, Mask<T> mask) {
    if constexpr (kHasMaskedLoad) return masked_load(row + column, mask);
    if (column >= 0 && column + kLanes<T> <= size) return load(row + column);
    Vec<T> v{};
    for (Index lane = 0; lane < kLanes<T>; ++lane) {
        if (column + lane >= 0 && column + lane < size) v[lane] = row[column + lane];
    }
    return v;
}

// Copies `rows` rows of pixels that are consecutive in memory, vector by vector; columns of
// stride_w 2 are copied apart, so that lanes are consecutive for every tap. A function of its own:
// its loops need all registers.
template <class T>
__attribute__((noinline)) void copy_vectors(const PlaneGeometry<T>& geometry, T* to, Index to_pitch,
                                            const T* from, Index from_pitch, Index rows) {
    constexpr Index kL = kLanes<T>;
    const Index vectors = geometry.copied_vectors, pitch = geometry.cut.phase_pitch;
    const Index column = geometry.column, size = geometry.problem.w;
    const Mask<T>* const masks = geometry.copy_masks;
    if (geometry.problem.stride_w == 1) {
        for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
            for (Index i = 0; i < vectors; ++i) {
                store(to + i * kL, load_inside(from, column + i * kL, size, masks[i]));
            }
        }
    } else if (pitch < kL) {
        const Mask<T> mask = masks[0];
        for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
            store(to, halves<T>(load_inside(from, column, size, mask)));
        }
    } else {
        for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
            for (Index i = 0; i < vectors; ++i) {
                const Vec<T> a = load_inside(from, column + 2 * i * kL, size, masks[2 * i]);
                const Vec<T> b =
                    load_inside(from, column + (2 * i + 1) * kL, size, masks[2 * i + 1]);
                store(to + i * kL, every_second<T>(a, b, 0));
                store(to + pitch + i * kL, every_second<T>(a, b, 1));
            }
        }
    }
}

// The padded input rows that one tile of a group of channels reads. Consecutive tiles share rows,
// which are copied once.
template <class T>
struct CopiedRows {
    const PlaneGeometry<T>& geometry;
    const View<const T>& x;
    const T* image;  // of the first channel
    Index planes;
    T* slots;
    Index slot_planes;  // pitch of planes
    const T* zeros;
    const T** rows;
    Index* steps;
    Index first = 0, count = 0, next_slot = 0;

    // Makes rows[0, span) the padded rows from `begin` on; begin never decreases.
    void advance(Index begin, Index span) {
        const Problem& problem = geometry.problem;
        const Index gone = least(begin - first, count);
        count -= gone;
        for (Index i = 0; i < count; ++i) {
            rows[i] = rows[i + gone];
            steps[i] = steps[i + gone];
        }
        first = begin;
        while (count < span) {
            const Index padded = begin + count - problem.pad_top;
            const Index row = source_index(padded, problem.h, problem.pad_mode);
            if (row < 0) {
                rows[count] = zeros;
                steps[count++] = 0;
                continue;
            }
            // rows that follow each other, in memory and in the ring of slots
            Index run = 1;
            if (row == padded) run = least(span - count, problem.h - row);
            run = least(run, geometry.cut.slots - next_slot);
            copy(row, run);
            for (Index i = 0; i < run; ++i) {
                rows[count] = slots + (next_slot + i) * geometry.cut.slot_pitch;
                steps[count++] = slot_planes;
            }
            next_slot += run;
            if (next_slot == geometry.cut.slots) next_slot = 0;
        }
    }

    // Copies rows of every plane into the slots from next_slot on.
    void copy(Index row, Index run) const {
        const Index pitch = geometry.cut.slot_pitch;
        for (Index plane = 0; plane < planes; ++plane) {
            const T* const from = image + plane * x.stride[1] + row * x.stride[2];
            T* const to = slots + plane * slot_planes + next_slot * pitch;
            if (geometry.copied_vectors > 0) {
                copy_vectors(geometry, to, pitch, from, x.stride[2], run);
            } else {
                for (Index i = 0; i < run; ++i) gather(to + i * pitch, from + i * x.stride[2]);
            }
            if (geometry.problem.pad_mode == PadMode::kConstant) continue;
            for (Index i = 0; i < run; ++i) fill_border(to + i * pitch, from + i * x.stride[2]);
        }
    }

    void gather(T* to, const T* from) const {
        const Index step = geometry.problem.stride_w;
        for (Index phase = 0; phase < geometry.phases; ++phase, to += geometry.cut.phase_pitch) {
            const Inside inside = geometry.inside[phase];
            fill_zero(to, inside.begin);
            fill_zero(to + inside.end, geometry.length - inside.end);
            copy_strided(to + inside.begin,
                         from + (geometry.column + phase + inside.begin * step) * x.stride[3],
                         step * x.stride[3], inside.end - inside.begin);
        }
    }

    void fill_border(T* to, const T* from) const {
        const Problem& problem = geometry.problem;
        for (Index phase = 0; phase < geometry.phases; ++phase, to += geometry.cut.phase_pitch) {
            const Inside inside = geometry.inside[phase];
            for (Index i = 0; i < geometry.length; ++i) {
                if (i == inside.begin) i = inside.end;
                if (i >= geometry.length) break;
                const Index at = geometry.column + phase + i * problem.stride_w;
                to[i] = from[source_index(at, problem.w, problem.pad_mode) * x.stride[3]];
            }
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
    int shape;
    bool in_place;
    T no_bias = 0;
    Strip<T> strip;
    const T* rows[kMostSpan];
    Index steps[kMostSpan];
    ColumnTaps<T> columns[kMostTaps];
    T own_weights[kMostPlanes * kMostTaps * kMostTaps];

    PlaneTask(const DepthwiseJob<T>& all, const PlaneGeometry<T>& block, T* scratch)
        : job(all),
          geometry(block),
          zeros(scratch),
          slots(zeros + all.cut.slot_pitch),
          buffer(slots + all.cut.planes * all.cut.slots * all.cut.slot_pitch),
          shape(strip_shape(all.problem, false)),
          strip(make_strip(all.problem, columns)) {
        for (Index s = 0; s < job.problem.s; ++s) columns[s] = {rows, geometry.offsets[s]};
        in_place = job.arrays.y.stride[3] == 1;
        strip.rows = rows;
        strip.row_steps = steps;
        strip.weight_step = job.problem.r * job.problem.s;
        strip.bias = &no_bias;
        strip.bias_step = job.arrays.bias ? 1 : 0;
        strip.lanes = geometry.lanes;
        strip.masks = geometry.masks;
        strip.y_pitch = in_place ? job.arrays.y.stride[2] : whole_lines<T>(job.cut.col_block);
        strip.y_step = job.arrays.y.stride[1];
    }

    // How many channels from k on are computed together.
    Index group(Index k, Index left) const {
        const Problem& problem = job.problem;
        if (!in_place || problem.k != problem.c || job.cut.row_blocks > 1) return 1;
        return least(least(geometry.planes, left), problem.k - k);
    }

    void run(Index image, Index k, Index planes, Index p0, Index p1) {
        const Problem& problem = job.problem;
        const View<const T>& x = job.arrays.x;
        const View<T>& y = job.arrays.y;
        const Index channel = problem.k == problem.c ? k : k / (problem.k / problem.groups);
        strip.planes = planes;
        if (job.arrays.bias) strip.bias = job.arrays.bias + k;
        if (job.arrays.packed && !problem.channels_last) {
            strip.weights = static_cast<const T*>(job.arrays.packed) + k * strip.weight_step;
        } else {
            strip.weights = own_weights;
            for (Index i = 0; i < planes; ++i) {
                pack_channel(problem, job.arrays.w, k + i, own_weights + i * strip.weight_step);
            }
        }
        const T* const from = x.data + image * x.stride[0] + channel * x.stride[1];
        T* const to = y.data + image * y.stride[0] + k * y.stride[1] + geometry.q0 * y.stride[3];
        CopiedRows<T> copied{geometry, x,     from,
                             planes,   slots, job.cut.slots * job.cut.slot_pitch,
                             zeros,    rows,  steps};
        for (Index p = p0; p < p1;) {
            const int tile = tile_rows(p1 - p);
            const Index count = kTileRows[tile];
            strip.span = row_span(problem, count);
            strip.y = in_place ? to + p * strip.y_pitch : buffer;
            if (geometry.direct) {
                if (job.cut.fetches && in_place) fetch_ahead(p, count, p1);
                place_rows(problem, from + geometry.column, x.stride[2], p * problem.stride_h,
                           x.stride[1], zeros, strip, steps);
                run_strip<T, Lanes::kMaskedPixels>(strip, geometry.strip_cut, shape, tile);
            } else {
                copied.advance(p * problem.stride_h, strip.span);
                run_strip<T, Lanes::kPixels>(strip, geometry.strip_cut, shape, tile);
                if (planes > 1) move_rows(strip, 1 - planes);
            }
            finish(count, to + p * y.stride[2]);
            p += count;
        }
    }

    // What follows a tile: the next one of the same planes, or the first one of the next planes.
    void fetch_ahead(Index p, Index count, Index p1) {
        const Index step = job.problem.stride_h;
        const View<const T>& x = job.arrays.x;
        if (p + count < p1 || strip.planes == 1) {
            strip.x_ahead = count * step * x.stride[2];
            strip.y_ahead = count * strip.y_pitch;
        } else {
            strip.x_ahead = strip.planes * x.stride[1] - p * step * x.stride[2];
            strip.y_ahead = strip.planes * strip.y_step - p * strip.y_pitch;
        }
    }

    void finish(Index count, T* to) const {
        const View<T>& y = job.arrays.y;
        if (finishes_later(job.problem.activation)) {
            for (Index i = 0; i < strip.planes * count; ++i) {
                finish_row<T>(strip.y + i / count * strip.y_step + i % count * strip.y_pitch,
                              strip.lanes, nullptr, 0, job.problem.activation);
            }
        }
        if (in_place) return;
        for (Index i = 0; i < count; ++i, to += y.stride[2]) {
            const T* row = strip.y + i * strip.y_pitch;
            for (Index q = 0; q < strip.lanes; ++q) to[q * y.stride[3]] = row[q];
        }
    }
};

template <class T>
void plane_units(const DepthwiseJob<T>& job, Index begin, Index end, T* scratch) {
    const Problem& problem = job.problem;
    const DepthwiseCut& cut = job.cut;
    for (Index q = 0; q < problem.q; q += cut.col_block) {
        const PlaneGeometry<T> geometry(job, q, least(problem.q, q + cut.col_block));
        PlaneTask<T> task(job, geometry, scratch);
        for (Index unit = begin; unit < end;) {
            const Index row_block = unit % cut.row_blocks, plane = unit / cut.row_blocks;
            const Index k = plane % problem.k, planes = task.group(k, end - unit);
            const Index p = row_block * cut.row_block;
            task.run(plane / problem.k, k, planes, p, least(problem.p, p + cut.row_block));
            unit += planes;
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
    strip.y_pitch = y.stride[2];
    const int shape = strip_shape(problem, true);
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
            strip.y = to + p * y.stride[2] + q * y.stride[3];
            run_strip<T, Lanes::kChannels>(strip, strip_cut, shape, tile);
            if (!finishes_later(problem.activation)) continue;
            for (Index i = 0; i < count; ++i) {
                finish_row<T>(strip.y + i * strip.y_pitch, lanes, nullptr, 0, problem.activation);
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
