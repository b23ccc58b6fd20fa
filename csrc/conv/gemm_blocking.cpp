#include "conv/gemm_blocking.hpp"

#include <algorithm>

namespace fastconv {
namespace {

Index ceil_div(Index a, Index b) {
    return (a + b - 1) / b;
}

// Costs in cycles of one multiply-add on a vector, calibrated by forcing each way on the layers of
// `python -m benchmarks.peers --network vgg16,resnet50`; they only have to rank the ways of
// cutting.
constexpr double kPackVector = 6.5;      // gathering one vector of pixels
constexpr double kPackKernelLane = 0.5;  // one weight into a panel of columns, from dense rows
constexpr double kScatterLane = 1.6;     // the same from strided weights
constexpr double kCopyKernel = 0.15;     // one weight into a row panel
constexpr double kTile = 30.0;           // entering and leaving a tile
constexpr double kRowPanel = 300.0;      // the pages of y that a panel of image planes begins with
constexpr double kTurnVector = 6.0;      // turning and storing one vector of a tile
constexpr double kStoreVector = 1.5;     // storing one
constexpr double kFewRows = 4;           // a tile of fewer rows waits for its own sums
constexpr double kMemoryBytes = 12.0;    // bytes a cycle of weights that no cache holds
// Share of one task's time that the last thread is waited for: cores are slowed down by what else
// runs on them, and small tasks even that out.
constexpr double kWait = 0.05;
// Output channels become vector lanes of a channels-last problem where they fill this part of a
// tile; only then are the channels of a tap consecutive steps.
constexpr Index kLeastLanes = 4;
// Scratch of a thread that the form of packed weights is chosen for.
constexpr Index kDefaultWorkspace = Index(8) << 20;
// Pixels are read in place as columns for at most this many rows: with more, packing pays.
constexpr Index kDirectColumnRows = 32;

// Share of the tiles of `count` consecutive pixels that cannot be read in place: they touch the
// border or two rows of y.
double packed_share(const Problem& problem, Index count, bool whole_image) {
    if (whole_image) return 0;
    const double reach = double((problem.s - 1) * problem.dilation_w) / double(problem.stride_w);
    const bool even = problem.q % count == 0;
    const double lost = reach > 0 ? (even ? 2.0 : 1.0) * double(count) : (even ? 0 : double(count));
    const double across = std::max(0.0, 1 - lost / double(problem.q));
    const double reach_down =
        double((problem.r - 1) * problem.dilation_h) / double(problem.stride_h);
    const double down = std::max(0.0, 1 - reach_down / double(problem.p));
    return 1 - across * down;
}

bool pointwise(const Problem& problem) {
    return problem.r == 1 && problem.s == 1 && problem.stride_h == 1 && problem.stride_w == 1 &&
           problem.pad_top == 0 && problem.pad_left == 0 && problem.p == problem.h &&
           problem.q == problem.w;
}

struct Model {
    const Problem& problem;
    const GemmShape& shape;
    Index images;  // times groups
    int threads;
    bool dense_weights;
    double packed_rows, packed_cols;  // shares of pixel tiles that are packed
    double weight_bytes;

    // Estimated time of the slowest thread when each image and group is cut into these blocks.
    double time(const Blocking& b, Index row_blocks, Index col_blocks) const {
        const double rows = double(ceil_div(b.rows, row_blocks));
        const double cols =
            double(ceil_div(ceil_div(b.cols, shape.tile.cols), col_blocks) * shape.tile.cols);
        const double real_cols =
            std::min(cols, double(ceil_div(b.cols, shape.lanes) * shape.lanes));
        const double vectors = real_cols / double(shape.lanes), depth = double(b.depth);
        const double row_tiles = std::max(1.0, rows / double(b.row_tile));
        double step = std::max(rows, row_tiles * kFewRows) * vectors;
        if (b.channel_lanes) {
            const double row_vectors = double(shape.row_panel_lanes / shape.lanes);
            step += packed_rows * row_tiles * row_vectors * kPackVector;
            if (!b.packed) step += real_cols * (dense_weights ? kPackKernelLane : kScatterLane);
        } else {
            step += packed_cols * vectors * kPackVector;
            if (!b.packed) step += rows * kCopyKernel;
        }
        if (weight_bytes > double(shape.second_level_cache)) {
            const double weights = b.channel_lanes ? real_cols : rows;
            step += weights * double(shape.item_bytes) / kMemoryBytes;
        }
        const double tiles = row_tiles * std::max(1.0, cols / double(shape.tile.cols));
        const bool turned = b.channel_lanes && !problem.channels_last;
        const double stored =
            turned ? row_tiles * double(shape.row_panel_lanes) * kTurnVector : rows * kStoreVector;
        const double passes = double(b.depth_blocks);
        const double pages = b.channel_lanes ? 0 : row_tiles * kRowPanel;
        const double task = step * depth + passes * (tiles * kTile + pages) + stored * vectors;
        const Index rounds = ceil_div(images * row_blocks * col_blocks, threads);
        return task * (double(rounds) + kWait);
    }
};

// Sides, depth blocks and the smallest numbers of blocks that cache and workspace allow.
struct Start {
    Blocking blocking;
    Index row_blocks, col_blocks;
};

Start start(const Problem& problem, const GemmShape& shape, Index thread_bytes, bool packed,
            bool channel_lanes) {
    const Index pixels = problem.p * problem.q, outputs = problem.k / problem.groups;
    Blocking b{};
    b.taps_first = problem.channels_last && outputs * kLeastLanes >= shape.tile.cols;
    b.channel_lanes = channel_lanes;
    b.packed = packed;
    b.rows = channel_lanes ? pixels : outputs;
    b.cols = channel_lanes ? outputs : pixels;
    b.depth = problem.c / problem.groups * problem.r * problem.s;
    b.row_tile = ceil_div(b.rows, ceil_div(b.rows, shape.tile.rows));

    // A block of columns stays in half of the second-level cache while all rows pass by.
    const Index item = shape.item_bytes, panel = shape.tile.cols;
    const Index panels = ceil_div(b.cols, panel);
    const Index row_bytes = shape.tile.rows * (shape.max_depth_block + 64 / item) * item;
    const Index room = std::max(thread_bytes - row_bytes - (1 << 12), thread_bytes / 4);
    const Index cache = std::min(shape.second_level_cache / 2, room / 2);
    const Index deepest = std::max<Index>(shape.max_depth_block / 8,
                                          cache / (std::min<Index>(panels, 8) * panel * item));
    const Index block = std::min(shape.max_depth_block, deepest);
    b.depth_blocks = ceil_div(b.depth, block);
    b.depth_block = ceil_div(b.depth, b.depth_blocks);
    b.depth_blocks = ceil_div(b.depth, b.depth_block);
    b.sums_in_scratch = channel_lanes && !problem.channels_last && b.depth_blocks > 1;
    const Index most_panels = std::max<Index>(1, cache / (b.depth_block * panel * item));
    const Index col_blocks = ceil_div(panels, most_panels);
    Index row_blocks = 1;
    if (b.sums_in_scratch) {
        const Index tile_bytes = shape.tile.rows * ceil_div(panels, col_blocks) * panel * item;
        const Index most_tiles = std::max<Index>(1, cache / 2 / tile_bytes);
        row_blocks = ceil_div(ceil_div(b.rows, b.row_tile), most_tiles);
    }
    return {b, row_blocks, col_blocks};
}

// Cuts rows and columns so that the slowest thread has least to do: few panels do not divide
// evenly, and cutting one side packs the other once more for every block.
Blocking best_cut(const Start& begin, const Model& model, double* time) {
    Blocking b = begin.blocking;
    const GemmShape& shape = model.shape;
    const Index panels = ceil_div(b.cols, shape.tile.cols),
                row_panels = ceil_div(b.rows, b.row_tile);
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
    b.row_block = ceil_div(row_panels, rows) * b.row_tile;
    b.row_blocks = ceil_div(b.rows, b.row_block);
    b.tasks = model.images * b.row_blocks * b.col_blocks;
    return b;
}

}  // namespace

template <class T>
GemmShape gemm_shape() {
    const Kernels<T>& kernels = kernels_for<T>();
    static const Index cache = std::clamp<Index>(second_level_cache_bytes(), 256 << 10, 2 << 20);
    return {kernels.tile,     kernels.lanes, kernels.max_depth_block, kernels.row_panel_lanes,
            Index(sizeof(T)), cache};
}

Blocking make_blocking(const Problem& problem, const GemmShape& shape, int threads,
                       Index thread_bytes, bool packed) {
    const bool flat = pointwise(problem);
    const Index outputs = problem.k / problem.groups;
    const double weights = double(problem.k) * double(problem.c / problem.groups) *
                           double(problem.r) * double(problem.s) * double(shape.item_bytes);
    const bool few_rows = outputs <= kDirectColumnRows;
    const Model model{problem,
                      shape,
                      problem.n * problem.groups,
                      threads,
                      !problem.channels_last || problem.r * problem.s == 1,
                      packed_share(problem, shape.tile.rows, flat),
                      few_rows ? packed_share(problem, shape.tile.cols, flat) : 1.0,
                      weights};
    const Start lanes = start(problem, shape, thread_bytes, packed, true);
    const Start pixels = start(problem, shape, thread_bytes, packed, false);
    double lanes_time = 0, pixels_time = 0;
    Blocking chosen;
    if (problem.channels_last) {
        chosen = best_cut(lanes.blocking.taps_first ? lanes : pixels, model, &lanes_time);
    } else if (packed) {
        // the form of packed weights must not depend on the batch, on threads or on workspace
        Model one = model;
        one.images = 1, one.threads = 1;
        const Index bytes = kDefaultWorkspace;
        best_cut(start(problem, shape, bytes, true, true), one, &lanes_time);
        best_cut(start(problem, shape, bytes, true, false), one, &pixels_time);
        chosen = best_cut(lanes_time < pixels_time ? lanes : pixels, model, &lanes_time);
    } else {
        const Blocking by_channel = best_cut(lanes, model, &lanes_time);
        const Blocking by_pixel = best_cut(pixels, model, &pixels_time);
        chosen = lanes_time < pixels_time ? by_channel : by_pixel;
    }
    chosen.direct_pixels = chosen.channel_lanes || few_rows;
    return chosen;
}

template GemmShape gemm_shape<float>();
template GemmShape gemm_shape<double>();

}  // namespace fastconv
