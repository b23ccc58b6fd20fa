// How the gradient of w is cut into tasks, by what each way is estimated to cost.
#include "conv/weight_grad_blocking.hpp"

#include <algorithm>
#include <cmath>

#include "conv/gemm_blocking.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "conv/weight_grad.hpp"

namespace fastconv {
namespace {

// Pixels of a box: their number is part of the order of the sum where that is cut into chunks.
constexpr Index kBoxPixels = 512;
// Chunks are for results that make few tiles: at most so many sums, and at least so many boxes.
constexpr Index kMostChunks = 8, kMostChunkSums = 1 << 16, kChunkBoxes = 2;
// Bytes of a task's sums, and of its copies, that the second-level cache holds together.
constexpr Index kSumBytes = 384 << 10, kCopyBytes = 384 << 10;
// Channels and taps of a pixel that are copied together.
constexpr Index kMostPixelRows = 512;

// Costs in cycles, as in gemm_blocking.cpp: they only have to rank the ways of cutting.
constexpr double kTile = 60;         // entering and leaving a tile
constexpr double kFewSums = 8;       // a tile of fewer waits for its own sums
constexpr double kTurnVector = 4;    // one vector of lanes turned
constexpr double kTurnSquare = 48;   // a square of vectors, whole or not
constexpr double kCopyVector = 2;    // one copied
constexpr double kGatherLane = 1.2;  // one element gathered
constexpr double kRun = 10;          // beginning a run of pixels
constexpr double kWait = 0.08;       // as in gemm_blocking.cpp

// Whether rows that are channels of x are read where they are.
bool reads_pixels_in_place(const Problem& problem) {
    return problem.r * problem.s == 1 && taps_lie_inside(problem) &&
           (problem.stride_w == 1 || problem.channels_last);
}

struct Model {
    const Problem& problem;
    GemmShape shape;
    int threads;

    double vectors(double lanes) const { return std::ceil(lanes / double(shape.lanes)); }

    // Cycles that turning `pixels` neighbouring ones of one vector of planes takes.
    double turn(double pixels) const { return vectors(pixels) * kTurnSquare + pixels; }

    double copied_lanes(const WeightGradBlocking& b, double lanes) const {
        const double count = vectors(lanes);
        if (!b.channel_lanes) {
            if (problem.channels_last) return count * double(pixels(b)) * kCopyVector;
            return count * double(b.box.images) * turn(double(b.box.rows * b.box.cols));
        }
        const double rows = double(b.box.images * b.image_rows), cols = double(b.image_cols);
        if (problem.channels_last) return count * rows * (cols * kCopyVector + kRun);
        if (b.step_w > 2) return lanes * rows * cols * kGatherLane;
        return count * rows * (turn(cols) * (b.step_w > 1 ? 1.5 : 1) + kRun);
    }

    double copied_rows(const WeightGradBlocking& b, double rows) const {
        if (b.channel_lanes) return 0;
        if (reads_pixels_in_place(problem)) return 0;
        if (b.kernel_rows) {
            const double run = double(b.image_cols * problem.c / problem.groups);
            return double(b.box.images * b.image_rows) * (vectors(run) * kCopyVector + kRun);
        }
        if (b.pixel_major) {
            const double run = double(problem.s * problem.c / problem.groups);
            return double(pixels(b)) * double(problem.r) * (4 + vectors(run) * kCopyVector);
        }
        const double runs = double(b.box.images * b.box.rows);
        const bool strided = problem.channels_last || problem.stride_w > 2;
        const double run =
            strided ? double(b.box.cols) * kGatherLane
                    : vectors(double(b.box.cols)) * kCopyVector * double(problem.stride_w);
        return rows * runs * (run + kRun);
    }

    static Index pixels(const WeightGradBlocking& b) {
        return b.box.images * b.box.rows * b.box.cols;
    }

    // Estimated time of the slowest thread.
    double time(const WeightGradBlocking& b) const {
        const double lanes = double(std::min(b.lane_block, b.lanes));
        const double rows = double(std::min(b.row_block, b.rows)), taps = double(b.taps);
        const double tiles = std::ceil(rows / double(b.row_tile));
        const double whole = std::floor(lanes / double(shape.tile.cols));
        const double rest = vectors(lanes - whole * double(shape.tile.cols));
        const double full = double(shape.tile.cols / shape.lanes);
        const double tile_rows = rows / tiles;
        double step = whole * std::max(kFewSums, tile_rows * full);
        if (rest > 0) step += std::max(kFewSums, tile_rows * rest);
        const double panels = whole + (rest > 0 ? 1 : 0);
        const double box = step / 2 * tiles * taps * double(pixels(b)) +
                           panels * tiles * taps * kTile + copied_lanes(b, lanes) +
                           copied_rows(b, rows);
        const double stored = rows * vectors(lanes) * taps *
                              (b.channel_lanes && taps == 1 ? kCopyVector : 2 * kTurnVector);
        const double boxes = double(ceil_div(b.boxes, b.chunks));
        const double rounds = double(ceil_div(b.tasks, threads));
        return (box * boxes + stored) * (rounds + kWait);
    }
};

// Sums of their own for a part of the pixels, where a result has too few tiles for many threads: a
// function of the problem alone, since it changes the sums.
Index count_chunks(const Problem& problem, Index boxes) {
    const Index sums = problem.k * (problem.c / problem.groups) * problem.r * problem.s;
    Index chunks = 1;
    while (2 * chunks <= kMostChunks && 2 * chunks * kChunkBoxes <= boxes &&
           2 * chunks * sums <= kMostChunkSums) {
        chunks *= 2;
    }
    return chunks;
}

// Operands of 16 bits are read from copies of boxes, whose planes crowd no sets of a cache.
bool is_widened(const Problem& problem) {
    return problem.element == Element::kFloat16 || problem.element == Element::kBfloat16;
}

// Pixels of a box. While tiles of few results compute one, the next is fetched, channels last: the
// second-level cache holds both.
Index box_pixels(const Problem& problem, Index item_bytes) {
    constexpr Index kFetchedBytes = 256 << 10, kLeastPixels = 128;
    const Index most = kBoxPixels * 4 / item_bytes;
    const Index results = problem.k * problem.c / problem.groups * problem.r * problem.s;
    if (!problem.channels_last || results > kMostChunkSums) return most;
    const Index fit = kFetchedBytes / ((problem.k + problem.c) * item_bytes);
    return std::clamp(fit, std::min(kLeastPixels, most), most);
}

// Whether one row of the kernel, all channels, is a tile of rows: first layers, channels last.
// Those of neighbouring pixels overlap in memory, and so each pixel of x is copied once.
bool reads_kernel_rows(const Problem& problem, const GemmShape& shape, Index box_cols) {
    const Index run = problem.s * problem.c;
    return problem.channels_last && problem.groups == 1 && problem.pad_mode == PadMode::kConstant &&
           problem.dilation_h == 1 && problem.dilation_w == 1 && problem.stride_h <= problem.r &&
           problem.stride_w <= problem.s && problem.r > 1 && run <= shape.tile.rows &&
           2 * run > shape.tile.rows && box_cols >= problem.r && !is_widened(problem);
}

WeightGradBlocking start(const Problem& problem, const GemmShape& shape, bool channel_lanes) {
    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    WeightGradBlocking b{};
    b.channel_lanes = channel_lanes;
    b.lanes = channel_lanes ? channels : outputs;
    b.taps = channel_lanes ? problem.r * problem.s : 1;
    b.rows = channel_lanes ? outputs : channels * problem.r * problem.s;
    b.pixel_major = problem.channels_last && (channel_lanes || b.rows <= kMostPixelRows);
    b.box = make_pixel_box(problem, box_pixels(problem, shape.item_bytes));
    b.boxes = count_boxes(problem, b.box);
    b.chunks = count_chunks(problem, b.boxes);
    b.step_h = problem.r == 1 ? problem.stride_h : 1;
    b.step_w = problem.s == 1 ? problem.stride_w : 1;
    b.image_rows =
        (b.box.rows - 1) * (problem.stride_h / b.step_h) + (problem.r - 1) * problem.dilation_h + 1;
    b.image_cols =
        (b.box.cols - 1) * (problem.stride_w / b.step_w) + (problem.s - 1) * problem.dilation_w + 1;
    b.row_tile = ceil_div(b.rows, ceil_div(b.rows, shape.tile.rows));
    if (!channel_lanes && reads_kernel_rows(problem, shape, b.box.cols)) {
        b.kernel_rows = true;
        b.row_tile = problem.s * problem.c;
    }
    if (is_widened(problem)) {
        b.gy_in_place = channel_lanes;
        b.x_in_place = !channel_lanes && reads_pixels_in_place(problem);
    }
    return b;
}

// Whether the copy of one panel of x is a reasonable size.
bool copies_image(const Problem& problem, const GemmShape& shape, const WeightGradBlocking& b) {
    constexpr Index kMostStep = 1 << 12;
    if (std::max({problem.stride_h, problem.stride_w, problem.dilation_h, problem.dilation_w,
                  problem.r, problem.s}) > kMostStep) {
        return false;
    }
    const double pixels = double(b.box.images) * double(b.image_rows) * double(b.image_cols);
    return pixels * double(shape.tile.cols * shape.item_bytes) <= 2 * double(kCopyBytes);
}

template <class T>
void cut(WeightGradBlocking& b, const Problem& problem, const GemmShape& shape, Index panels,
         Index tiles) {
    b.lane_block = panels * shape.tile.cols;
    b.lane_blocks = ceil_div(b.lanes, b.lane_block);
    b.row_block = tiles * b.row_tile;
    b.row_blocks = ceil_div(b.rows, b.row_block);
    b.tasks = problem.groups * b.chunks * b.lane_blocks * b.row_blocks;
}

// The fastest way to cut into tasks whose scratch fits, of those with these lanes.
template <class T>
double best_cut(WeightGradBlocking& best, const Model& model, Index thread_bytes,
                GradScratchSize scratch, bool channel_lanes) {
    const Problem& problem = model.problem;
    const GemmShape& shape = model.shape;
    WeightGradBlocking b = start(problem, shape, channel_lanes);
    if (channel_lanes && !copies_image(problem, shape, b)) return HUGE_VAL;
    const Index panels = ceil_div(b.lanes, shape.tile.cols);
    const Index tiles = ceil_div(b.rows, b.row_tile);
    const Index sum_bytes = shape.tile.rows * shape.tile.cols * b.taps * shape.item_bytes;
    double least = HUGE_VAL;
    Index last_panels = 0;
    for (Index lane_blocks = 1; lane_blocks <= panels; ++lane_blocks) {
        const Index some_panels = ceil_div(panels, lane_blocks);
        if (some_panels == last_panels) continue;
        last_panels = some_panels;
        Index last_tiles = 0;
        for (Index row_blocks = 1; row_blocks <= tiles; ++row_blocks) {
            const Index some_tiles = ceil_div(tiles, row_blocks);
            if (some_tiles == last_tiles) continue;
            last_tiles = some_tiles;
            cut<T>(b, problem, shape, some_panels, some_tiles);
            const Index bytes = scratch(problem, b) * shape.item_bytes;
            const Index sums = some_panels * some_tiles * sum_bytes;
            const bool smallest = some_panels == 1 && some_tiles == 1;
            const bool fits =
                bytes <= thread_bytes && sums <= kSumBytes && bytes - sums <= 2 * kCopyBytes;
            if (!fits && !smallest) continue;
            const double time = model.time(b);
            if (time < least) {
                least = time;
                best = b;
            }
        }
    }
    return least;
}

}  // namespace

bool taps_lie_inside(const Problem& problem) {
    return problem.pad_top == 0 && problem.pad_left == 0 &&
           (problem.p - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h < problem.h &&
           (problem.q - 1) * problem.stride_w + (problem.s - 1) * problem.dilation_w < problem.w;
}

template <class T>
WeightGradBlocking cut_weight_grad(const Problem& problem, int threads, Index thread_bytes,
                                   GradScratchSize scratch) {
    const Model model{problem, gemm_shape<T>(), threads};
    WeightGradBlocking pixels{}, channels{};
    const double by_pixel = best_cut<T>(pixels, model, thread_bytes, scratch, false);
    const double by_channel = best_cut<T>(channels, model, thread_bytes, scratch, true);
    return by_channel < by_pixel ? channels : pixels;
}

template WeightGradBlocking cut_weight_grad<float>(const Problem&, int, Index, GradScratchSize);
template WeightGradBlocking cut_weight_grad<double>(const Problem&, int, Index, GradScratchSize);

}  // namespace fastconv
