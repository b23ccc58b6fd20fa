#include "conv/gemm_cost.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "conv/sizes.hpp"

namespace fastconv {
namespace {

// Costs in cycles of one multiply-add on a vector, calibrated by forcing each way on the layers of
// `python -m benchmarks.peers --network vgg16,resnet50`; they only have to rank the ways of
// cutting.
constexpr double kPackVector = 6.5;      // gathering one vector of pixels
constexpr double kGatherVector = 30.0;   // the same, of pixels more than two apart
constexpr double kPackKernelLane = 1.0;  // one weight into a panel of columns
constexpr double kCopyKernel = 0.15;     // one weight into a row panel
constexpr double kTile = 30.0;           // entering and leaving a tile
constexpr double kRowPanel = 300.0;      // the pages of y that a panel of image planes begins with
constexpr double kTurnVector = 6.0;      // turning and storing one vector of a tile
constexpr double kStoreVector = 1.5;     // storing one
constexpr double kFewRows = 4;           // a tile of fewer rows waits for its own sums
constexpr double kMemoryBytes = 12.0;    // bytes a cycle of weights that no cache holds
constexpr double kCopyVector = 12.0;     // one vector of an image copied with its border
constexpr double kListStep = 2.0;        // a step in a table of those that meet the image
constexpr double kListedTables = 4;      // such tables of a task
constexpr double kInPlaceStep = 2.5;     // a step of a tile that walks over planes or pixels of x
constexpr double kVolumeStep = 1.0;      // the same of volumes, whose tasks stay in the cache
constexpr double kSampleVector = 10.0;   // blending one vector of pixels out of four
// Share of one task's time that the last thread is waited for: cores are slowed down by what else
// runs on them, and small tasks even that out.
constexpr double kWait = 0.08;
// Pixels are read in place as columns for at most this many rows: with more, packing pays.
constexpr Index kDirectColumnRows = 32;

constexpr Index kLineBytes = 64;
// Rows whose pitch is this close to a multiple of 4 KiB fall into the same sets of the cache.
constexpr Index kSetBytes = 4096, kSetMargin = 192;

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

// Share of the taps of one axis of y, all its indices together, that see the image.
double share_inside(Index out, Index stride, Index pad, Index dilation, Index taps, Index size) {
    Index inside = 0;
    for (Index tap = 0; tap < taps; ++tap) {
        const Index first = tap * dilation - pad;  // what index 0 reads
        const Index begin = first < 0 ? ceil_div(-first, stride) : 0;
        const Index end = first < size ? ceil_div(size - first, stride) : 0;
        inside += std::max<Index>(0, std::min(end, out) - begin);
    }
    return double(inside) / double(out * taps);
}

bool pointwise(const Problem& problem) {
    return problem.r == 1 && problem.s == 1 && problem.stride_h == 1 && problem.stride_w == 1 &&
           problem.pad_top == 0 && problem.pad_left == 0 && problem.p == problem.h &&
           problem.q == problem.w;
}

// Register tiles of `rows` rows of the product.
double row_tiles(const Blocking& b, double rows) {
    return b.bordered
               ? std::ceil(rows / double(b.row_run)) * double(ceil_div(b.row_run, b.row_tile))
               : std::max(1.0, rows / double(b.row_tile));
}

}  // namespace

bool crowds_cache_sets(Index pitch_bytes) {
    const Index rest = std::abs(pitch_bytes) % kSetBytes;
    return std::min(rest, kSetBytes - rest) < kSetMargin && pitch_bytes >= kSetBytes - kSetMargin;
}

Index rows_of_run(const Problem& problem, const GemmShape& shape) {
    return problem.q == shape.half_rows && 2 * shape.half_rows == shape.tile.rows ? 2 : 1;
}

double taps_inside(const Problem& problem) {
    if (problem.pad_mode != PadMode::kConstant) return 1;
    return share_inside(problem.p, problem.stride_h, problem.pad_top, problem.dilation_h, problem.r,
                        problem.h) *
           share_inside(problem.q, problem.stride_w, problem.pad_left, problem.dilation_w,
                        problem.s, problem.w);
}

ImageBlock image_block(const Problem& problem, const GemmShape& shape, const Blocking& b,
                       Index rows) {
    const Index taps = problem.r * problem.s;
    const Index height = (rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1;
    const Index item = shape.item_bytes, lanes = shape.lanes;
    ImageBlock image{};
    image.width = (problem.q - 1) * problem.stride_w + (problem.s - 1) * problem.dilation_w + 1;
    if (b.taps_first) {
        image.channels = problem.c / problem.groups;
        image.channel = 1;
        const bool crowded = crowds_cache_sets(problem.stride_w * image.channels * item);
        image.pixel = image.channels + (crowded ? kLineBytes / item : 0);
        image.row = image.width * image.pixel;
        image.plane = height * image.row;
        // vectors that are copied may end beyond the last row
        image.elements = problem.t * image.plane + lanes;
    } else {
        image.channels = std::min(problem.t * (problem.c / problem.groups), b.depth_block / taps);
        image.pixel = 1;
        image.row = image.width;
        // an odd number of lines: planes begin in different sets of the cache
        const Index line = kLineBytes / item;
        image.channel = (ceil_div(height * image.row + lanes, line) | 1) * line;
        image.elements = image.channels * image.channel;
    }
    return image;
}

bool few_outputs(const Problem& problem) {
    return problem.k / problem.groups <= kDirectColumnRows;
}

GemmCost gemm_cost(const Problem& problem, const GemmShape& shape, int threads) {
    const bool flat = pointwise(problem);
    const double weights = double(problem.k) * double(problem.c / problem.groups) *
                           double(problem.t * problem.r) * double(problem.s) *
                           double(shape.item_bytes);
    const bool pointwise_kernel = problem.t * problem.r * problem.s == 1;
    const double in_place_step = problem.t > 1 ? kVolumeStep : pointwise_kernel ? 0 : kInPlaceStep;
    return {problem,
            shape,
            problem.n * problem.o * problem.groups,
            threads,
            packed_share(problem, shape.tile.rows, flat),
            few_outputs(problem) ? packed_share(problem, shape.tile.cols, flat) : 1.0,
            weights,
            in_place_step,
            problem.stride_w <= 2 ? kPackVector : kGatherVector,
            taps_inside(problem)};
}

GemmCost sampled_gemm_cost(const Problem& problem, const GemmShape& shape, int threads) {
    const double weights = double(problem.k) * double(problem.c / problem.groups) *
                           double(problem.r * problem.s) * double(shape.item_bytes);
    return {problem,       shape, problem.n * problem.groups, threads, 1, 1, weights, 0,
            kSampleVector, 1};
}

double GemmCost::time(const Blocking& b, Index row_blocks, Index col_blocks) const {
    const Index unit = b.bordered ? b.row_run : 1;
    const double rows =
        std::min(double(b.rows), double(ceil_div(ceil_div(b.rows, unit), row_blocks) * unit));
    const double cols =
        double(ceil_div(ceil_div(b.cols, shape.tile.cols), col_blocks) * shape.tile.cols);
    const double real_cols = std::min(cols, double(ceil_div(b.cols, shape.lanes) * shape.lanes));
    const double vectors = real_cols / double(shape.lanes), depth = double(b.depth);
    const double row_tiles = fastconv::row_tiles(b, rows);
    const double col_passes = std::ceil(cols / std::min(cols, double(b.pass_cols)));
    double step = std::max(rows, row_tiles * kFewRows) * vectors;
    double copied = 0;
    if (b.skips_border) {
        step *= inside;
        copied =
            kListStep * kListedTables * (b.taps_first ? col_passes * depth : double(b.depth_block));
    }
    if (b.bordered && !b.borderless) {
        const ImageBlock image = image_block(problem, shape, b, Index(rows) / problem.q);
        const double blocks = b.taps_first ? 1 : double(b.depth_blocks);
        const double runs = double(image.elements) / double(image.row);
        copied += blocks * runs * double(ceil_div(image.row, shape.lanes)) * kCopyVector;
    }
    if (b.channel_lanes) {
        const double row_vectors = double(shape.row_panel_lanes / shape.lanes);
        if (b.borderless) step += inside * row_tiles * in_place_step;
        if (!b.bordered) {
            step += packed_rows * row_tiles * row_vectors * pack_vector * col_passes;
            step += (1 - packed_rows) * row_tiles * in_place_step;
        }
        if (!b.packed) step += real_cols * kPackKernelLane;
    } else {
        step += packed_cols * vectors * pack_vector;
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
    const double task = step * depth + passes * (tiles * kTile + pages) + stored * vectors + copied;
    const Index rounds = ceil_div(images * row_blocks * col_blocks, threads);
    return task * (double(rounds) + kWait);
}

}  // namespace fastconv
