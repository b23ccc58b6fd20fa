// One task of an image filter: bands of rows of one image and group, tile by tile.
#pragma once

#include "kernels/filter_rows.hpp"
#include "kernels/finish.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr Index kFilterOutputs = 4;  // most channels of y computed from one copy of the rows

// A tile of y, rows p0 + j * step of `rows`, columns [q0, q0 + cols), of several channels.
template <class T>
struct FilterTile {
    static constexpr Index kPitch = kFilterVectors * kLanes<T>;
    Index p0, rows, step;
    Index q0, cols, vectors;
    bool in_place;  // otherwise in `buffer`
    alignas(64) T buffer[kFilterOutputs][kFilterRows * kPitch];
};

template <class T>
void place_tile(FilterTile<T>& tile, const Filter<T>& filter, const FilterRun& run, Index index) {
    constexpr Index kL = kLanes<T>;
    const Index vectors = ceil_div(filter.problem.q, kL);
    const Index begin = index * vectors / run.tiles, end = (index + 1) * vectors / run.tiles;
    tile.p0 = run.p0;
    tile.rows = run.rows;
    tile.step = run.step;
    tile.q0 = begin * kL;
    tile.cols = least(end * kL, filter.problem.q) - tile.q0;
    tile.vectors = end - begin;
    tile.in_place = filter.y.stride[3] == 1 && tile.cols == tile.vectors * kL;
}

// Bias, activation and the way out of the buffer, for the `index`-th of the tile's channels.
template <class T>
void finish_tile(FilterTile<T>& tile, const Filter<T>& filter, Index output, Index index) {
    const Problem& problem = filter.problem;
    const View<T>& y = filter.y;
    const bool finish = filter.bias || problem.activation != Activation::kNone;
    if (tile.in_place && !finish) return;
    for (Index i = 0; i < tile.rows; ++i) {
        T* to = y.data + output * y.stride[1] + (tile.p0 + i * tile.step) * y.stride[2] +
                tile.q0 * y.stride[3];
        T* from = tile.in_place ? to : tile.buffer[index] + i * tile.kPitch;
        if (finish) {
            finish_row(from, tile.cols, filter.bias ? filter.bias + output : nullptr, 0,
                       problem.activation);
        }
        if (tile.in_place) continue;
        if (y.stride[3] == 1) {
            copy_run(to, from, tile.cols);
        } else {
            for (Index q = 0; q < tile.cols; ++q) to[q * y.stride[3]] = from[q];
        }
    }
}

// Several tiles in one pass, or one in several.
template <class T>
void compute_run(const Filter<T>& filter, const FilterRun& run, Index output0, Index outputs) {
    static constexpr FilterTable<T> functions;
    const Problem& problem = filter.problem;
    const View<T>& y = filter.y;
    const T* rows[kMaxFilterRowBlock + kFilterRows - 1];
    FilterTile<T> tile;
    FilterPass pass = before_first_pass(problem);
    for (bool first = true; next_pass(pass, problem, filter.blocking.row_block); first = false) {
        filter.find_rows(rows, filter, run, pass);
        const auto& table = pass.rows == kSmallKernel ? functions.small : functions.any;
        for (Index index = run.first; index < run.end; ++index) {
            place_tile(tile, filter, run, index);
            const FilterFunction<T> function = table[tile.vectors - 1][tile.rows - 1];
            const Index pitch = tile.in_place ? tile.step * y.stride[2] : tile.kPitch;
            for (Index k = output0; k < output0 + outputs; ++k) {
                T* to = tile.in_place ? y.data + k * y.stride[1] + tile.p0 * y.stride[2] + tile.q0
                                      : tile.buffer[k - output0];
                function(find_taps(rows, tile.q0 - run.q0, filter, k, pass), to, pitch, !first);
                if (filter.one_pass) finish_tile(tile, filter, k, k - output0);
            }
        }
    }
    if (filter.one_pass) return;
    for (Index k = output0; k < output0 + outputs; ++k) finish_tile(tile, filter, k, k - output0);
}

// Rows of y that one band of a phase has: phase + j * phases for j in [first, first + rows).
struct Band {
    Index phase, first, rows;
};

inline Band find_band(const FilterBlocking& blocking, Index p, Index index) {
    const Index phase = index / blocking.bands, band = index % blocking.bands;
    const Index count = ceil_div(p - phase, blocking.phases);
    const Index first = band * count / blocking.bands;
    return {phase, first, (band + 1) * count / blocking.bands - first};
}

template <class T>
void filter_band(const Filter<T>& filter, Index index) {
    const Problem& problem = filter.problem;
    const FilterBlocking& blocking = filter.blocking;
    const Band band = find_band(blocking, problem.p, index);
    if (band.rows == 0) return;
    const Index vectors = ceil_div(problem.q, Index(kLanes<T>));
    FilterRun run{};
    run.p0 = band.phase + band.first * blocking.phases;
    run.rows = band.rows;
    run.step = filter.tall.step;
    run.tiles = ceil_div(vectors, blocking.tile_vectors);
    const auto vectors_before = [&](Index tile) { return tile * vectors / run.tiles; };
    for (run.first = 0; run.first < run.tiles; run.first = run.end) {
        const Index begin = vectors_before(run.first);
        run.q0 = begin * kLanes<T>;
        run.end = run.first + 1;
        run.vectors = vectors_before(run.end) - begin;
        const bool in_place = is_in_place(filter, run.q0, run.vectors);
        while (filter.one_pass && run.end < run.tiles) {
            const Index more = vectors_before(run.end + 1) - begin;
            // rows outside of the image are read from a row of zeros as long as the longest copy
            if (more > blocking.run_vectors) break;
            if (in_place && !is_in_place(filter, run.q0, more)) break;
            ++run.end;
            run.vectors = more;
        }
        for (Index k = 0; k < filter.outputs; k += kFilterOutputs) {
            compute_run(filter, run, k, least(kFilterOutputs, filter.outputs - k));
        }
    }
}

template <class T>
FindRows<T> find_rows_of(Element pixel) {
    switch (pixel) {
        case Element::kUint8:
            return find_rows<T, std::uint8_t>;
        case Element::kInt8:
            return find_rows<T, std::int8_t>;
        case Element::kUint16:
            return find_rows<T, std::uint16_t>;
        case Element::kInt16:
            return find_rows<T, std::int16_t>;
        case Element::kFloat32:
            return find_rows<T, float>;
        default:
            return find_rows<T, T>;
    }
}

template <class T>
void filter_task(const FilterJob<T>& job, Index index, T* scratch) {
    const Problem& problem = job.problem;
    const FilterBlocking& blocking = job.blocking;
    const Operands<T>& arrays = job.arrays;
    const Index block = index % blocking.group_tasks;
    index /= blocking.group_tasks;
    const Index group = index % problem.groups, image = index / problem.groups;
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;

    Index offsets[kMaxFilterCols];
    const Phases tall = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    const Phases wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    const Index window = blocking.run_vectors * kLanes<T> + wide.reach(problem.s);
    for (Index s = 0; s < problem.s; ++s) {
        offsets[s] = s % wide.period * window + s / wide.period * wide.step;
    }
    const Index pixel0 = image * arrays.x.stride[0] + group * channels * arrays.x.stride[1];
    Filter<T> filter{problem,
                     blocking,
                     arrays.x,
                     arrays.w,
                     arrays.y,
                     pixel0,
                     find_rows_of<T>(arrays.pixel),
                     arrays.bias ? arrays.bias + group * outputs : nullptr,
                     nullptr,
                     channels,
                     outputs,
                     tall,
                     wide,
                     window,
                     offsets,
                     scratch,
                     nullptr,
                     nullptr,
                     arrays.pixel != kElementOf<T>,
                     false};
    FilterPass pass = before_first_pass(problem);
    next_pass(pass, problem, blocking.row_block);
    filter.one_pass = !next_pass(pass, problem, blocking.row_block);
    filter.w.data += group * outputs * filter.w.stride[0];
    filter.y.data += image * filter.y.stride[0] + group * outputs * filter.y.stride[1];
    const Index group_elements = outputs * filter.kernel_elements();
    if (arrays.packed) {
        filter.whole = static_cast<const T*>(arrays.packed) + group * group_elements;
        filter.zeros = scratch;
    } else if (blocking.whole_weights) {
        pack_filter(scratch, filter.w, outputs, problem);
        filter.whole = scratch;
        filter.zeros = scratch + group_elements;
    } else {
        filter.zeros = scratch + blocking.row_block * problem.s;
    }
    filter.copies = filter.zeros + wide.used * window;
    fill_zero(filter.zeros, wide.used * window);
    const Index bands = blocking.phases * blocking.bands;
    const Index end = least(bands, (block + 1) * blocking.task_bands);
    for (Index band = block * blocking.task_bands; band < end; ++band) filter_band(filter, band);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
