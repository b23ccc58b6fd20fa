#include "conv/strip_blocking.hpp"

#include <algorithm>

#include "conv/sizes.hpp"

namespace fastconv {
namespace {

Index whole_lines(Index bytes) {
    return ceil_div(bytes, 64) * 64;
}

// A strip should stay in the second-level cache beside the weights of one panel; a word of floats
// has one channel, so that a strip of them is larger.
constexpr Index kStripBytes = 384 << 10, kFloatStripBytes = 768 << 10;
// And so should a panel: with more steps the reduction is cut.
constexpr Index kPanelBytes = 384 << 10;
// Image lines that the taps of a channel share take no more than this.
constexpr Index kLineBytes = 32 << 10;
// Scratch that is always granted, less what does not depend on the strip.
constexpr Index kLeastRoom = 40 << 10;
// Channels a group needs for its rows to be shared by the outputs above and below instead of being
// packed for each of them: a word of fewer would have members left over.
constexpr Index kDeepChannels = 16;
// Least steps of a reduction that turning the tiles of y is worth.
constexpr Index kTurnedSteps = 100;
// Blocks are not made narrower than this many outputs before the reduction is cut.
constexpr Index kNarrowCols = 128;
// The narrowest block that a fold must have scratch for.
constexpr Index kLeastCols = 64;
// Vectors of one tile, at most, and elements that packing writes at a time.
constexpr Index kTileVectors = 4, kChunk = 16;

// What packing one vector of the strip, and one word of the weights, costs in multiply-adds on
// vectors; and the share of a task that the last thread is waited for.
constexpr double kPackVector = 6.0, kCopyVector = 4.0;
constexpr double kPackWeight = 1.0;
// Entering a task, and a tile, and storing it; bytes a cycle of weights that no cache near by
// holds.
constexpr double kTask = 2000.0, kTile = 100.0, kTurnedTile = 300.0;
constexpr double kWeightBytes = 12.0;
constexpr double kWait = 0.05;

// Whether output channels are lanes though the image is in planes: pixels do not fill the vectors
// of small maps, but y has to be turned, which takes the time of some steps.
bool turns(const Problem& problem, const StripBlocking& b, const StripShape& shape) {
    return shape.turns && problem.pad_mode == PadMode::kConstant && problem.stride_w <= 2 &&
           b.words * b.taps_h * b.taps_w >= kTurnedSteps;
}

// What is left of the kernel when `fold` has turned some of its axes into channels.
StripBlocking describe(const Problem& problem, Fold fold, const StripShape& shape) {
    StripBlocking b{};
    b.fold = fold;
    b.channels = problem.c / problem.groups;
    b.taps_h = b.taps_w = b.step_h = b.step_w = b.hop_h = b.hop_w = 1;
    if (fold == Fold::kNone) {
        b.taps_h = problem.r;
        b.step_h = problem.dilation_h;
        b.hop_h = problem.stride_h;
        b.hop_w = problem.stride_w;
    } else {
        b.channels *= problem.r;
    }
    if (fold == Fold::kTaps) {
        b.channels *= problem.s;
    } else {
        b.taps_w = problem.s;
        b.step_w = problem.dilation_w;
    }
    b.words = ceil_div(b.channels, shape.members);
    const Index outputs = problem.k / problem.groups;
    b.channel_lanes = fold == Fold::kNone && outputs >= shape.lanes &&
                      (problem.channels_last || turns(problem, b, shape));
    b.turned = b.channel_lanes && !problem.channels_last;
    if (b.channel_lanes) {
        const Index vectors = ceil_div(outputs, shape.lanes);
        b.panels = ceil_div(vectors, shape.vectors);
        b.panel_rows = ceil_div(vectors, b.panels) * shape.lanes;
    } else {
        b.panels = ceil_div(outputs, shape.rows);
        b.panel_rows = ceil_div(outputs, b.panels);
    }
    b.panel_block = b.panels;
    b.panel_bytes = whole_lines(kPanelHeader + b.words * b.taps_h * b.taps_w * b.panel_rows * 4);
    return b;
}

// How far the last tap is from the first.
Index reach_h(const Problem& problem) {
    return (problem.r - 1) * problem.dilation_h;
}
Index reach_w(const Problem& problem) {
    return (problem.s - 1) * problem.dilation_w;
}

// Words from pixel to pixel: the pixels of a tile shall not share the sets of a cache.
Index spread(Index words) {
    return words % 128 == 0 ? words + 16 : words;
}

void lay_out_lines(const Problem& problem, StripBlocking& b, const StripShape& shape) {
    b.line_rows = 0;
    b.line_phases = 1;
    b.line_pitch = ceil_div(b.pitch, kChunk) * kChunk;
    if (b.fold == Fold::kNone) return;
    const Index rows = (b.rows - 1) * problem.stride_h + reach_h(problem) + 1;
    const Index phases = std::min(problem.stride_w, reach_w(problem) + 1);
    const Index length = std::max(b.cols, kChunk) + reach_w(problem) / problem.stride_w;
    if (rows > kLineBytes || phases > kLineBytes || length > kLineBytes) return;
    const Index pitch = ceil_div(length, kChunk) * kChunk;
    // two channels meet in a word at most where each has more taps than a word has members
    const Index taps = problem.r * (b.fold == Fold::kTaps ? problem.s : 1);
    const Index channels =
        std::min(problem.c / problem.groups, taps >= shape.members ? 2 : shape.members);
    if (rows * phases * pitch * channels * shape.item_bytes > kLineBytes) return;
    b.line_channels = channels;
    b.line_rows = rows;
    b.line_phases = phases;
    b.line_pitch = pitch;
}

// Places everything a task needs in its scratch, for blocks of b.rows x b.cols outputs.
void lay_out(const Problem& problem, StripBlocking& b, const StripShape& shape, bool packed) {
    const Index taps = b.taps_h * b.taps_w, steps = b.word_block * taps;
    const Index slack = kTileVectors * shape.lanes;
    const Index far_h = (b.taps_h - 1) * b.step_h, far_w = (b.taps_w - 1) * b.step_w;
    b.phases_h = std::min(b.hop_h, far_h + 1);
    b.phases_w = std::min(b.hop_w, far_w + 1);
    b.strip_rows = b.rows + far_h / b.hop_h;
    b.pitch = b.cols + far_w / b.hop_w;
    b.scratch_bytes = Index(1) << 60;  // more than there is
    const double rows = double(b.phases_h) * double(b.strip_rows);
    const double columns = double(b.phases_w) * double(b.pitch);
    if (rows * columns * double(b.word_block) > double(Index(1) << 28)) return;
    b.plane = b.phases_h * b.strip_rows * b.phases_w * b.pitch;
    b.word_pitch = b.channel_lanes ? 1 : b.plane;
    b.pixel_pitch = b.channel_lanes ? spread(b.word_block) : 1;
    lay_out_lines(problem, b, shape);
    const Index lines =
        b.line_rows > 0 ? b.line_channels * b.line_rows * b.line_phases : shape.members + 1;
    const bool waits = (shape.keeps_sums || b.turned) && b.word_block < b.words;
    const Index lanes = ceil_div(b.rows * b.pitch, slack) * slack;
    b.partial_pitch = waits ? lanes : 0;
    Index at = 0;
    const auto place = [&](Index& where, Index bytes) {
        where = at;
        at += whole_lines(bytes);
    };
    place(b.offsets_at, (steps + kStepsAhead) * 4);
    place(b.panel_at, packed ? 0 : kPanelHeader + steps * b.panel_rows * 4);
    place(b.pixel_sums_at, shape.ones ? (b.plane + slack) * 4 : 0);
    place(b.sums_at, shape.ones ? lanes * 4 : 0);
    place(b.partial_at, b.panel_block * b.panel_rows * b.partial_pitch * 4);
    place(b.lines_at, lines * b.line_pitch * shape.item_bytes);
    const Index strip = b.channel_lanes ? b.pixel_pitch * b.plane : b.word_block * b.plane;
    place(b.strip_at, (strip + slack) * 4);
    b.scratch_bytes = at;
}

// Whether `fold` can do with the least scratch.
bool fits(const Problem& problem, Fold fold, const StripShape& shape) {
    // a strip holds at least this much; the rest of the arithmetic cannot overflow then
    if (problem.r > kLeastRoom || problem.s > kLeastRoom || problem.dilation_h > kLeastRoom ||
        problem.dilation_w > kLeastRoom) {
        return problem.r == 1 && problem.s == 1;
    }
    StripBlocking b = describe(problem, fold, shape);
    b.rows = 1;
    b.cols = kLeastCols;
    b.word_block = b.panel_block = 1;
    lay_out(problem, b, shape, false);
    return b.scratch_bytes <= kLeastRoom;
}

// A function of kernel and channels alone: packed weights are in this order, and sums of floats.
Fold choose_fold(const Problem& problem, const StripShape& shape) {
    const Index channels = problem.c / problem.groups;
    const bool deep = channels >= kDeepChannels || channels % shape.members == 0 || problem.r == 1;
    const bool narrow = shape.members == 1 || problem.stride_w == 1;
    if (deep && (narrow || channels >= kDeepChannels) && fits(problem, Fold::kNone, shape)) {
        return Fold::kNone;
    }
    if (problem.stride_w == 1 && fits(problem, Fold::kRows, shape)) return Fold::kRows;
    return Fold::kTaps;
}

// Makes blocks smaller in the direction that costs least; false where there is none.
bool shrink(StripBlocking& b, Index room) {
    const Index partial = b.panel_block * b.panel_rows * b.partial_pitch * 4;
    const auto halve = [](Index& size) {
        size = ceil_div(size, 2);
        return true;
    };
    if (b.rows > 1) return halve(b.rows);
    if (b.cols > kNarrowCols) return halve(b.cols);
    if (b.scratch_bytes <= room) return false;  // no lines: they are not worth more
    if (b.panel_block > 1 && partial > room / 2) return halve(b.panel_block);
    if (b.word_block > 1) return halve(b.word_block);
    if (b.cols > 1) return halve(b.cols);
    if (b.panel_block > 1) return halve(b.panel_block);
    return false;
}

// Largest blocks that fit the scratch.
void choose_block(const Problem& problem, StripBlocking& b, const StripShape& shape, Index room,
                  bool packed) {
    const Index step_bytes = b.taps_h * b.taps_w * b.panel_rows * 4;
    const Index parts = ceil_div(b.words, std::max<Index>(1, kPanelBytes / step_bytes));
    b.word_block = ceil_div(b.words, parts);
    b.rows = problem.p;
    b.cols = problem.q;
    lay_out(problem, b, shape, packed);
    while (b.scratch_bytes > room && shrink(b, room)) lay_out(problem, b, shape, packed);
    if (b.fold == Fold::kNone || b.line_rows > 0) return;
    const StripBlocking without_lines = b;
    while (b.line_rows == 0 && shrink(b, room)) lay_out(problem, b, shape, packed);
    if (b.line_rows == 0) b = without_lines;
}

// Estimated time of the slowest thread for blocks of b.rows x b.cols outputs.
double estimate(const StripBlocking& b, const StripShape& shape, int threads, bool packed) {
    const Index far_h = (b.taps_h - 1) * b.step_h, far_w = (b.taps_w - 1) * b.step_w;
    const Index pitch = b.cols + far_w / b.hop_w, rows = b.rows + far_h / b.hop_h;
    const double steps = double(b.words * b.taps_h * b.taps_w);
    const double outputs = double(b.panel_rows * b.panel_block);
    const Index lanes = (b.rows - 1) * pitch + b.cols;
    const double phases = double(b.phases_h * b.phases_w) * double(rows);
    double products, strip, tiles;  // products and strip in vectors
    if (b.channel_lanes) {
        products = double(b.rows * b.cols) * outputs / double(shape.lanes);
        tiles = far_w > 0 ? double(b.rows * ceil_div(b.cols, shape.rows))
                          : double(ceil_div(lanes, shape.rows));
        strip = phases * double(pitch) * double(ceil_div(b.words, shape.lanes)) * kCopyVector;
    } else {
        products = double(ceil_div(lanes, shape.lanes)) * outputs;
        tiles = double(ceil_div(lanes, shape.lanes * shape.vectors));
        strip = phases * double(ceil_div(pitch, shape.lanes)) * double(b.words) * kPackVector;
    }
    const double weight_words = outputs * steps;
    const double weights = packed ? weight_words * 4 / kWeightBytes : weight_words * kPackWeight;
    const double task = products * steps + strip + weights + kTask +
                        tiles * double(b.panel_block) * (b.turned ? kTurnedTile : kTile);
    return task * double(b.group_block) * (double(ceil_div(b.tasks, threads)) + kWait);
}

// Cuts the outputs of an image: rows, or the columns of a single row.
void cut_outputs(const Problem& problem, StripBlocking& b, Index blocks) {
    if (problem.p > 1) {
        b.rows = ceil_div(problem.p, blocks);
    } else {
        b.cols = ceil_div(problem.q, blocks);
    }
    b.row_blocks = ceil_div(problem.p, b.rows);
    b.col_blocks = ceil_div(problem.q, b.cols);
}

void cut_panels(const Problem& problem, StripBlocking& b, Index blocks) {
    b.panel_block = ceil_div(b.panels, blocks);
    b.panel_blocks = ceil_div(b.panels, b.panel_block);
    b.tasks = problem.n * b.group_blocks * b.row_blocks * b.col_blocks * b.panel_blocks;
}

// Cuts groups, outputs and output channels, at least as far as choose_block had to, so that the
// slowest thread has least to do.
void cut(const Problem& problem, StripBlocking& b, const StripShape& shape, int threads,
         bool packed) {
    // beyond this many tasks for each thread uneven shares no longer matter
    const Index enough = 16 * threads;
    const Index length = problem.p > 1 ? problem.p : problem.q;
    const Index least = ceil_div(length, problem.p > 1 ? b.rows : b.cols);
    const Index least_panels = ceil_div(b.panels, b.panel_block);
    cut_outputs(problem, b, least);
    const Index images = problem.n * b.row_blocks * b.col_blocks;
    b.group_block = ceil_div(problem.groups, std::max<Index>(1, enough / images));
    b.group_blocks = ceil_div(problem.groups, b.group_block);
    const Index most = std::min(length, enough / (images / least * b.group_blocks));
    StripBlocking best = b;
    double best_time = -1;
    for (Index blocks = least; blocks <= std::max(least, threads > 1 ? most : 1); ++blocks) {
        cut_outputs(problem, b, blocks);
        const Index others = problem.n * b.group_blocks * b.row_blocks * b.col_blocks;
        const Index most_panels = threads > 1 ? std::min(b.panels, enough / others) : 1;
        for (Index panel_blocks = least_panels; panel_blocks <= std::max(least_panels, most_panels);
             ++panel_blocks) {
            cut_panels(problem, b, panel_blocks);
            const double time = estimate(b, shape, threads, packed);
            if (best_time >= 0 && time >= best_time) continue;
            best_time = time;
            best = b;
        }
    }
    b = best;
}

}  // namespace

StripBlocking make_strip_blocking(const Problem& problem, const StripShape& shape, int threads,
                                  Index thread_bytes, bool packed) {
    StripBlocking b = describe(problem, choose_fold(problem, shape), shape);
    const Index room = shape.members == 1 ? kFloatStripBytes : kStripBytes;
    choose_block(problem, b, shape, std::min(thread_bytes, room), packed);
    cut(problem, b, shape, threads, packed);
    lay_out(problem, b, shape, packed);
    return b;
}

StripBlocking make_strip_panels(const Problem& problem, const StripShape& shape) {
    return describe(problem, choose_fold(problem, shape), shape);
}

}  // namespace fastconv
