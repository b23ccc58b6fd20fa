#include "conv/gemm_blocking.hpp"

#include <algorithm>

#include "conv/gemm_cost.hpp"
#include "conv/sizes.hpp"

namespace fastconv {
namespace {

// Output channels become vector lanes of a channels-last problem where they fill this part of a
// tile; only then are the channels of a tap consecutive steps.
constexpr Index kLeastLanes = 4;
// Scratch of a thread that the form of packed weights is chosen for.
constexpr Index kDefaultWorkspace = Index(8) << 20;
// Sides, depth blocks and the smallest numbers of blocks that cache and workspace allow.
struct Start {
    Blocking blocking;
    Index row_blocks, col_blocks;
};

// Row blocks of which each reads so much of x that `bytes` of the cache hold it while all taps of
// several planes pass by.
Index blocks_in_cache(const Problem& problem, const GemmShape& shape, const Blocking& b,
                      Index row_blocks, Index bytes) {
    const Index runs = ceil_div(b.rows, b.row_run), reach = (problem.r - 1) * problem.dilation_h;
    const Index row = problem.t * problem.w * (problem.c / problem.groups) * shape.item_bytes;
    const auto read = [&](Index blocks) {
        const Index rows = ceil_div(runs, blocks) * rows_of_run(problem, shape);
        return std::min(problem.h, (rows - 1) * problem.stride_h + reach + 1) * row;
    };
    while (row_blocks < runs && read(row_blocks) > bytes) ++row_blocks;
    return ceil_div(runs, ceil_div(runs, row_blocks));
}

Start start(const Problem& problem, const GemmShape& shape, Index thread_bytes, bool packed,
            bool channel_lanes, bool bordered = false, bool borderless = false) {
    const Index pixels = problem.p * problem.q, outputs = problem.k / problem.groups;
    Blocking b{};
    b.bordered = bordered;
    b.taps_first = problem.channels_last && outputs * kLeastLanes >= shape.tile.cols;
    b.channel_lanes = channel_lanes;
    b.packed = packed;
    b.rows = channel_lanes ? pixels : outputs;
    b.cols = channel_lanes ? outputs : pixels;
    b.depth = b.packed_depth = problem.t * (problem.c / problem.groups) * problem.r * problem.s;
    b.row_run = bordered ? rows_of_run(problem, shape) * problem.q : b.rows;
    b.row_tile = ceil_div(b.row_run, ceil_div(b.row_run, shape.tile.rows));

    // A block of columns stays in half of the second-level cache while all rows pass by.
    const Index item = shape.item_bytes, panel = shape.tile.cols;
    const Index panels = ceil_div(b.cols, panel);
    const Index row_bytes = shape.tile.rows * (shape.max_depth_block + 64 / item) * item;
    const Index table_bytes = kTapTables * shape.max_depth_block * (2 * Index(sizeof(Index)) + 2);
    b.skips_border = bordered && taps_inside(problem) < 1 && table_bytes <= thread_bytes / 8;
    b.borderless = borderless && b.skips_border;
    const Index listed = b.skips_border ? table_bytes : 0;
    const Index room = std::max(thread_bytes - row_bytes - listed - (1 << 12), thread_bytes / 4);
    const Index cache = std::min(shape.second_level_cache / 2, room / 2);
    const Index deepest = std::max<Index>(shape.max_depth_block / 8,
                                          cache / (std::min<Index>(panels, 8) * panel * item));
    const Index block = std::min(shape.max_depth_block, deepest);
    const auto panels_within = [&](Index bytes, Index depth) {
        return std::max<Index>(1, bytes / (depth * panel * item));
    };
    // all taps of a channel, where a block of channels is copied
    const Index together = bordered && !b.taps_first ? problem.r * problem.s : 1;
    b.depth_blocks = ceil_div(b.depth, std::max<Index>(1, block / together) * together);
    b.depth_block = ceil_div(b.depth / together, b.depth_blocks) * together;
    b.depth_blocks = ceil_div(b.depth, b.depth_block);
    b.sums_in_scratch = channel_lanes && !problem.channels_last && b.depth_blocks > 1;
    b.pass_depth = b.depth_block;
    b.pass_cols = panels * panel;
    Index col_blocks = ceil_div(panels, panels_within(cache, b.depth_block));
    if (channel_lanes && !packed && b.taps_first && problem.r * problem.s > 1) {
        // taps lie beside each other in most weights: those of a channel are packed together
        const Index most_blocks = room / 2 / (b.depth_block * panel * item);
        b.pass_depth = std::clamp<Index>(most_blocks, 1, b.depth_blocks) * b.depth_block;
        b.pass_cols = panels_within(cache, std::min(b.pass_depth, b.depth)) * panel;
        col_blocks = 1;
    }
    Index row_blocks = 1;
    if (b.sums_in_scratch) {
        const Index tile_bytes = shape.tile.rows * ceil_div(panels, col_blocks) * panel * item;
        const Index most_tiles = std::max<Index>(1, cache / 2 / tile_bytes);
        row_blocks = ceil_div(ceil_div(b.rows, b.row_tile), most_tiles);
    }
    if (b.bordered && !b.borderless) {
        const Index runs = ceil_div(b.rows, b.row_run);
        // packed weights that outgrow the cache come once for every block; others are gathered line
        // by line, and lines that the copy displaces come more often
        const bool streamed = packed && outputs * b.depth * item > shape.second_level_cache;
        const auto bytes = [&](Index blocks) {
            const Index rows = ceil_div(runs, blocks) * rows_of_run(problem, shape);
            return image_block(problem, shape, b, std::min(rows, problem.p)).elements * item;
        };
        const auto fits = [&](Index blocks) {
            return bytes(blocks) <= (blocks == 1 && streamed ? cache : cache / 2);
        };
        while (row_blocks < runs && !fits(row_blocks)) ++row_blocks;
        b.bordered = fits(row_blocks);
        b.skips_border &= b.bordered;
        row_blocks = ceil_div(runs, ceil_div(runs, row_blocks));
    }
    if (b.borderless && problem.t > 1) {
        row_blocks = blocks_in_cache(problem, shape, b, row_blocks, cache / 2);
    }
    return {b, row_blocks, col_blocks};
}

// Whether a copy with its border pays: every pixel is read more than once.
bool may_be_bordered(const Problem& problem, const GemmShape& shape) {
    const Index taps = problem.r * problem.s;
    return taps > 1 && taps <= shape.max_depth_block / 4;
}

// Whether tiles can read their pixels in x: not where those of a row, which lie channels apart,
// fall into the same sets of the cache.
bool rows_may_be_in_place(const Problem& problem, const GemmShape& shape) {
    if (!problem.channels_last) return problem.t == 1;  // or steps are no list of even channels
    return !crowds_cache_sets(problem.stride_w * problem.c * shape.item_bytes);
}

// Cuts rows and columns so that the slowest thread has least to do: few panels do not divide
// evenly, and cutting one side packs the other once more for every block.
Blocking best_cut(const Start& begin, const GemmCost& model, double* time) {
    Blocking b = begin.blocking;
    const GemmShape& shape = model.shape;
    const Index unit = b.bordered ? b.row_run : b.row_tile;
    const Index panels = ceil_div(b.cols, shape.tile.cols), row_panels = ceil_div(b.rows, unit);
    Index rows = begin.row_blocks, cols = begin.col_blocks;
    *time = model.time(b, rows, cols);
    if (model.threads > 1) {
        // beyond this many tasks for each thread uneven shares no longer matter
        const Index images = model.images;
        const Index enough = 8 * model.threads;
        const Index most_cols = std::max(cols, std::min(panels, enough / images));
        for (Index c = begin.col_blocks; c <= most_cols; ++c) {
            const Index most_rows = std::min(
                row_panels, std::max(begin.row_blocks + model.threads - 1, enough / (images * c)));
            for (Index r = begin.row_blocks; r <= most_rows; ++r) {
                const double t = model.time(b, r, c);
                if (t < *time) *time = t, rows = r, cols = c;
            }
        }
    }
    b.col_block = ceil_div(panels, cols) * shape.tile.cols;
    b.col_blocks = ceil_div(b.cols, b.col_block);
    b.pass_cols = std::min(b.pass_cols, b.col_block);
    b.row_block = ceil_div(row_panels, rows) * unit;
    b.row_blocks = ceil_div(b.rows, b.row_block);
    b.tasks = model.images * b.row_blocks * b.col_blocks;
    if (b.bordered && !b.borderless) {
        const Index height = std::min(b.row_block / model.problem.q, model.problem.p);
        b.image = image_block(model.problem, shape, b, height);
    }
    return b;
}

// The fastest way with output channels as lanes.
Blocking best_lanes(const Problem& problem, const GemmCost& model, Index thread_bytes, bool packed,
                    double* time) {
    Blocking best = best_cut(start(problem, model.shape, thread_bytes, packed, true), model, time);
    if (!may_be_bordered(problem, model.shape)) return best;
    const auto consider = [&](const Start& begin) {
        double other_time;
        const Blocking other = best_cut(begin, model, &other_time);
        if (other_time < *time) best = other, *time = other_time;
    };
    const Start copied = start(problem, model.shape, thread_bytes, packed, true, true);
    if (copied.blocking.bordered) consider(copied);
    const Start borderless = start(problem, model.shape, thread_bytes, packed, true, true, true);
    if (borderless.blocking.borderless && rows_may_be_in_place(problem, model.shape)) {
        consider(borderless);
    }
    return best;
}

}  // namespace

template <class T>
GemmShape gemm_shape() {
    const Kernels<T>& kernels = kernels_for<T>();
    static const Index cache = std::clamp<Index>(second_level_cache_bytes(), 256 << 10, 2 << 20);
    return {kernels.tile,
            kernels.lanes,
            kernels.max_depth_block,
            kernels.row_panel_lanes,
            kernels.half_rows,
            Index(sizeof(T)),
            cache};
}

bool packs_lanes(const Problem& problem, const GemmShape& shape) {
    if (problem.channels_last) {
        return start(problem, shape, kDefaultWorkspace, true, true).blocking.taps_first;
    }
    GemmCost one = gemm_cost(problem, shape, 1);
    one.images = 1;
    double lanes_time = 0, pixels_time = 0;
    best_lanes(problem, one, kDefaultWorkspace, true, &lanes_time);
    best_cut(start(problem, shape, kDefaultWorkspace, true, false), one, &pixels_time);
    return lanes_time < pixels_time;
}

Blocking make_blocking(const Problem& problem, const GemmShape& shape, int threads,
                       Index thread_bytes, bool packed) {
    const GemmCost model = gemm_cost(problem, shape, threads);
    const auto by_channel = [&](const GemmCost& with, Index bytes, double* time) {
        return best_lanes(problem, with, bytes, packed, time);
    };
    const auto by_pixel = [&](const GemmCost& with, Index bytes, double* time) {
        return best_cut(start(problem, shape, bytes, packed, false), with, time);
    };
    double lanes_time = 0, pixels_time = 0;
    Blocking chosen;
    if (problem.channels_last) {
        const bool lanes = start(problem, shape, thread_bytes, packed, true).blocking.taps_first;
        chosen = lanes ? by_channel(model, thread_bytes, &lanes_time)
                       : by_pixel(model, thread_bytes, &pixels_time);
    } else if (packed) {
        chosen = packs_lanes(problem, shape) ? by_channel(model, thread_bytes, &lanes_time)
                                             : by_pixel(model, thread_bytes, &pixels_time);
    } else {
        chosen = by_channel(model, thread_bytes, &lanes_time);
        const Blocking pixels = by_pixel(model, thread_bytes, &pixels_time);
        if (pixels_time <= lanes_time) chosen = pixels;
    }
    chosen.direct_pixels = chosen.channel_lanes || few_outputs(problem);
    return chosen;
}

Blocking make_packed_blocking(const Problem& problem, const GemmShape& shape, int threads,
                              Index thread_bytes, bool channel_lanes) {
    const GemmCost model = gemm_cost(problem, shape, threads);
    double time = 0;
    Blocking chosen =
        channel_lanes ? best_lanes(problem, model, thread_bytes, true, &time)
                      : best_cut(start(problem, shape, thread_bytes, true, false), model, &time);
    chosen.direct_pixels = channel_lanes || few_outputs(problem);
    return chosen;
}

Blocking make_sampled_blocking(const Problem& problem, const GemmShape& shape, int threads,
                               Index thread_bytes) {
    const GemmCost model = sampled_gemm_cost(problem, shape, threads);
    Start begin = start(problem, shape, thread_bytes, true, true);
    Blocking& b = begin.blocking;
    b.taps_first = true;
    // whole taps where a few fit: where they sample is found once for every stretch
    const Index channels = problem.c / problem.groups;
    const Index whole = ceil_div(b.depth_block, channels) * channels;
    if (whole <= shape.max_depth_block) {
        b.depth_block = std::min(whole, b.depth);
        b.depth_blocks = ceil_div(b.depth, b.depth_block);
    }
    double time = 0;
    return best_cut(begin, model, &time);
}

template GemmShape gemm_shape<float>();
template GemmShape gemm_shape<double>();

}  // namespace fastconv
