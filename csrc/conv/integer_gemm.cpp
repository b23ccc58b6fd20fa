// Integers of 8 and 16 bits with exact sums modulo 2**32: an implicit GEMM whose pixels are vector
// lanes. x is packed once per block of outputs, several channels to a 32-bit word, and the kernel's
// taps read that strip at an offset instead of an unfolded image.
//
// Any order of an exact sum is the same sum, so nothing here has to be independent of the batch,
// the threads or the scratch at hand.
#include <algorithm>
#include <thread>

#include "conv/algorithm.hpp"
#include "cpu.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

Index ceil_div(Index a, Index b) {
    return (a + b - 1) / b;
}
Index whole_lines(Index bytes) {
    return ceil_div(bytes, 64) * 64;
}

// A strip should stay in the second-level cache beside the weights of one panel.
constexpr Index kStripBytes = 384 << 10;
// Scratch that is always granted, less what does not depend on the strip.
constexpr Index kLeastRoom = 40 << 10;
// Channels a group needs for its rows to be shared by the outputs above and below instead of being
// packed for each of them.
constexpr Index kDeepChannels = 16;
// Blocks are not made narrower than this many outputs before the reduction is cut.
constexpr Index kNarrowCols = 128;
// The narrowest block that a fold must have scratch for.
constexpr Index kLeastCols = 64;
// Vectors of one tile, at most, and elements that packing writes at a time.
constexpr Index kTileVectors = 4, kChunk = 16;
// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 19;
constexpr int kThreadsPerProcessor = 4;

// What packing one vector of the strip, and one word of the weights, costs in multiply-adds on
// vectors; and the share of a task that the last thread is waited for.
constexpr double kPackVector = 8.0;
constexpr double kPackWeight = 2.0;
constexpr double kWait = 0.1;

// What is left of the kernel when `fold` has turned some of its axes into channels.
IntegerBlocking describe(const Problem& problem, Fold fold, Index members) {
    IntegerBlocking b{};
    b.fold = fold;
    b.channels = problem.c / problem.groups;
    b.taps_h = b.taps_w = b.step_h = b.step_w = 1;
    if (fold == Fold::kNone) {
        b.taps_h = problem.r;
        b.step_h = problem.dilation_h;
    } else {
        b.channels *= problem.r;
    }
    if (fold == Fold::kTaps) {
        b.channels *= problem.s;
    } else {
        b.taps_w = problem.s;
        b.step_w = problem.dilation_w;
    }
    b.words = ceil_div(b.channels, members);
    return b;
}

// Lines of whole channels where kernel rows or taps share them, if that takes no more scratch than
// this.
constexpr Index kLineBytes = 32 << 10;

void lay_out_lines(const Problem& problem, IntegerBlocking& b, Index members, Index item) {
    b.line_rows = 0;
    b.phases = 1;
    b.line_pitch = ceil_div(b.pitch, kChunk) * kChunk;
    if (b.fold == Fold::kNone) return;
    const Index reach_h = (problem.r - 1) * problem.dilation_h;
    const Index reach_w = (problem.s - 1) * problem.dilation_w;
    const Index rows = (b.rows - 1) * problem.stride_h + reach_h + 1;
    const Index phases = std::min(problem.stride_w, reach_w + 1);
    const Index length = std::max(b.cols, kChunk) + reach_w / problem.stride_w;
    if (rows > kLineBytes || phases > kLineBytes || length > kLineBytes ||
        rows * phases * length > kLineBytes) {
        return;
    }
    const Index pitch = ceil_div(length, kChunk) * kChunk;
    // two channels meet in a word at most where each has more taps than a word has members
    const Index taps = problem.r * (b.fold == Fold::kTaps ? problem.s : 1);
    const Index channels = std::min(problem.c / problem.groups, taps >= members ? 2 : members);
    if (channels * rows * phases * pitch * item > kLineBytes) return;
    b.line_channels = channels;
    b.line_rows = rows;
    b.phases = phases;
    b.line_pitch = pitch;
}

// Places everything a task needs in its scratch, for blocks of b.rows x b.cols outputs.
template <class T>
void lay_out(const Problem& problem, IntegerBlocking& b, bool packed) {
    const IntegerKernels<T>& kernels = integers_for<T>();
    const Index taps = b.taps_h * b.taps_w, steps = b.word_block * taps;
    const Index outputs = problem.k / problem.groups;
    const Index slack = kTileVectors * kernels.lanes;
    b.pitch = b.cols + (b.taps_w - 1) * b.step_w;
    b.plane = (b.rows + (b.taps_h - 1) * b.step_h) * b.pitch;
    b.panels = ceil_div(outputs, kernels.rows);
    const Index rows = ceil_div(outputs, b.panels);
    b.panel_bytes = whole_lines(kPanelHeader + b.words * taps * rows * 4);
    lay_out_lines(problem, b, kernels.members, sizeof(T));
    const Index lines =
        b.line_rows > 0 ? b.line_channels * b.line_rows * b.phases : kernels.members + 1;
    Index at = 0;
    const auto place = [&](Index& where, Index bytes) {
        where = at;
        at += whole_lines(bytes);
    };
    place(b.offsets_at, steps * 4);
    place(b.panel_at, packed ? 0 : kPanelHeader + steps * rows * 4);
    place(b.ones_at, kernels.sums ? steps * 4 : 0);
    place(b.sums_at, kernels.sums ? (b.rows * b.pitch + slack) * 4 : 0);
    place(b.lines_at, lines * b.line_pitch * Index(sizeof(T)));
    place(b.strip_at, (b.word_block * b.plane + slack) * 4);
    b.scratch_bytes = at;
}

// The least scratch that `fold` can do with, or more than there is where it cannot.
template <class T>
bool fits(const Problem& problem, Fold fold) {
    // beyond these sizes products of them could overflow, and the answer is known
    constexpr Index kHuge = 1 << 20;
    if (problem.r > kHuge || problem.s > kHuge || problem.dilation_h > kHuge ||
        problem.dilation_w > kHuge) {
        return false;
    }
    IntegerBlocking b = describe(problem, fold, integers_for<T>().members);
    b.rows = 1;
    b.cols = kLeastCols;
    b.word_block = 1;
    lay_out<T>(problem, b, false);
    return b.scratch_bytes <= kLeastRoom;
}

// A pure function of the problem: packed weights are in this order.
template <class T>
Fold choose_fold(const Problem& problem) {
    const Index channels = problem.c / problem.groups, members = integers_for<T>().members;
    const bool deep = channels >= kDeepChannels || channels % members == 0 || problem.r == 1;
    if (problem.stride_h == 1 && problem.stride_w == 1 && deep && fits<T>(problem, Fold::kNone)) {
        return Fold::kNone;
    }
    if (problem.stride_w == 1 && fits<T>(problem, Fold::kRows)) return Fold::kRows;
    return Fold::kTaps;
}

// Largest blocks that fit the scratch: a wide block of few rows first, then a part of the
// reduction at a time.
template <class T>
void choose_block(const Problem& problem, IntegerBlocking& b, Index room, bool packed) {
    // 32-bit offsets: no strip comes near
    b.rows = problem.p;
    b.cols = problem.q;
    b.word_block = b.words;
    // sizes whose product could overflow are far beyond any scratch
    constexpr Index kHuge = Index(1) << 24;
    b.rows = std::min(b.rows, kHuge);
    b.cols = std::min(b.cols, kHuge);
    b.word_block = std::min(b.word_block, kHuge / (b.taps_h * b.taps_w));
    const auto shrink = [&](const auto& enough) {
        for (lay_out<T>(problem, b, packed); !enough(); lay_out<T>(problem, b, packed)) {
            if (b.rows > 1) {
                b.rows = ceil_div(b.rows, 2);
            } else if (b.cols > kNarrowCols) {
                b.cols = ceil_div(b.cols, 2);
            } else if (b.scratch_bytes > room && b.word_block > 1) {
                b.word_block = ceil_div(b.word_block, 2);
            } else if (b.scratch_bytes > room && b.cols > 1) {
                b.cols = ceil_div(b.cols, 2);
            } else {
                break;
            }
        }
    };
    shrink([&] { return b.scratch_bytes <= room; });
    if (b.fold == Fold::kNone || b.line_rows > 0) return;
    const IntegerBlocking without_lines = b;
    shrink([&] { return b.line_rows > 0; });
    if (b.line_rows == 0) b = without_lines;
}

// Estimated time of the slowest thread for blocks of b.rows x b.cols outputs.
template <class T>
double estimate(const Problem& problem, const IntegerBlocking& b, int threads, bool packed) {
    const IntegerKernels<T>& kernels = integers_for<T>();
    const Index pitch = b.cols + (b.taps_w - 1) * b.step_w;
    const double steps = double(b.words * b.taps_h * b.taps_w);
    const double vectors = double(ceil_div((b.rows - 1) * pitch + b.cols, kernels.lanes));
    const double outputs = double(ceil_div(problem.k / problem.groups, b.panels) * b.panel_block);
    const double strip = double(b.words) * double(b.rows + (b.taps_h - 1) * b.step_h) *
                         double(ceil_div(pitch, kernels.lanes));
    const double task = outputs * vectors * (steps + 1) + strip * kPackVector +
                        (packed ? 0.0 : outputs * steps * kPackWeight);
    return task * double(b.group_block) * (double(ceil_div(b.tasks, threads)) + kWait);
}

// Cuts the outputs of an image into at least the blocks that fit the scratch: rows, or the columns
// of a single row.
void cut_outputs(const Problem& problem, IntegerBlocking& b, Index blocks) {
    if (problem.p > 1) {
        b.rows = ceil_div(problem.p, blocks);
    } else {
        b.cols = ceil_div(problem.q, blocks);
    }
    b.row_blocks = ceil_div(problem.p, b.rows);
    b.col_blocks = ceil_div(problem.q, b.cols);
}

void cut_panels(const Problem& problem, IntegerBlocking& b, Index blocks) {
    b.panel_block = ceil_div(b.panels, blocks);
    b.panel_blocks = ceil_div(b.panels, b.panel_block);
    b.tasks = problem.n * b.group_blocks * b.row_blocks * b.col_blocks * b.panel_blocks;
}

// Cuts groups, outputs and output channels so that the slowest thread has least to do.
template <class T>
void cut(const Problem& problem, IntegerBlocking& b, int threads, bool packed) {
    // beyond this many tasks for each thread uneven shares no longer matter
    const Index enough = 16 * threads;
    const Index length = problem.p > 1 ? problem.p : problem.q;
    const Index least = ceil_div(length, problem.p > 1 ? b.rows : b.cols);
    cut_outputs(problem, b, least);
    const Index images = problem.n * b.row_blocks * b.col_blocks;
    b.group_block = ceil_div(problem.groups, std::max<Index>(1, enough / images));
    b.group_blocks = ceil_div(problem.groups, b.group_block);
    const Index most = std::min(length, enough / (images / least * b.group_blocks));
    IntegerBlocking best = b;
    double best_time = -1;
    for (Index blocks = least; blocks <= std::max(least, threads > 1 ? most : 1); ++blocks) {
        cut_outputs(problem, b, blocks);
        const Index others = problem.n * b.group_blocks * b.row_blocks * b.col_blocks;
        const Index most_panels = threads > 1 ? std::min(b.panels, enough / others) : 1;
        for (Index panel_blocks = 1; panel_blocks <= std::max<Index>(1, most_panels);
             ++panel_blocks) {
            cut_panels(problem, b, panel_blocks);
            const double time = estimate<T>(problem, b, threads, packed);
            if (best_time >= 0 && time >= best_time) continue;
            best_time = time;
            best = b;
        }
    }
    b = best;
}

template <class T>
IntegerBlocking make_blocking(const Problem& problem, int threads, Index thread_bytes,
                              bool packed) {
    IntegerBlocking b = describe(problem, choose_fold<T>(problem), integers_for<T>().members);
    choose_block<T>(problem, b, std::min(thread_bytes, kStripBytes), packed);
    cut<T>(problem, b, threads, packed);
    lay_out<T>(problem, b, packed);
    return b;
}

// A kernel of one tap that touches every pixel once sees an image as one long row.
template <class T>
void join_rows(Problem& problem, Operands<T>& arrays) {
    const bool pointwise = problem.r == 1 && problem.s == 1 && problem.stride_h == 1 &&
                           problem.stride_w == 1 && problem.p == problem.h &&
                           problem.q == problem.w && problem.pad_top == 0 && problem.pad_left == 0;
    if (!pointwise || arrays.x.stride[2] != problem.w * arrays.x.stride[3] ||
        arrays.y.stride[2] != problem.q * arrays.y.stride[3]) {
        return;
    }
    problem.w *= problem.h;
    problem.q *= problem.p;
    problem.h = problem.p = 1;
}

int useful_threads(const Problem& problem, int threads) {
    const double macs = double(problem.n) * double(problem.k) * double(problem.p) *
                        double(problem.q) * double(problem.c / problem.groups) * double(problem.r) *
                        double(problem.s);
    // asking costs microseconds: it reads a file
    static const int processors = std::max(2, int(std::thread::hardware_concurrency()));
    threads = std::min(threads, kThreadsPerProcessor * processors);
    return int(std::max(1.0, std::min(double(threads), macs / kThreadMacs)));
}

bool takes(const Problem&, bool) {
    return true;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
    const int threads = useful_threads(problem, resources.threads);
    const IntegerBlocking b = make_blocking<T>(problem, threads, resources.thread_bytes, packed);
    const int used = int(std::min<Index>(threads, std::max<Index>(1, b.tasks)));
    return {used * b.scratch_bytes, used};
}

template <class T>
IntegerBlocking panels_of(const Problem& problem) {
    IntegerBlocking b = describe(problem, choose_fold<T>(problem), integers_for<T>().members);
    b.rows = b.cols = b.word_block = 1;
    lay_out<T>(problem, b, true);
    return b;
}

template <class T>
Index packed_bytes(const Problem& problem) {
    const IntegerBlocking b = panels_of<T>(problem);
    return problem.groups * b.panels * b.panel_bytes;
}

template <class T>
void pack(const Problem& problem, const View<const T>& w, void* packed) {
    const IntegerBlocking b = panels_of<T>(problem);
    auto* to = static_cast<char*>(packed);
    View<const T> of_group = w;
    for (Index group = 0; group < problem.groups; ++group) {
        for (Index panel = 0; panel < b.panels; ++panel, to += b.panel_bytes) {
            integers_for<T>().pack_panel(problem, b, of_group, panel, 0, b.words, to);
        }
        of_group.data += problem.k / problem.groups * w.stride[0];
    }
}

template <class T>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    IntegerJob<T> job{problem, arrays, {}};
    join_rows(job.problem, job.arrays);
    const int threads = useful_threads(problem, resources.threads);
    job.blocking =
        make_blocking<T>(job.problem, threads, resources.thread_bytes, arrays.packed != nullptr);
    const IntegerBlocking& b = job.blocking;
    const Index used = std::min<Index>(threads, b.tasks);
    auto* scratch = static_cast<char*>(thread_workspace(std::size_t(used * b.scratch_bytes)));
    if (!scratch) return Status::kNoMemory;
    const auto task_function = integers_for<T>().task;
    const bool completed = parallel_for(
        b.tasks, int(used),
        [&](Index task, int thread) {
            task_function(job, task, scratch + thread * b.scratch_bytes);
        },
        interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

}  // namespace

template <class T>
const Algorithm<T>& integer_gemm() {
    static const Algorithm<T> algorithm{"integer_gemm",  takes,   footprint<T>,
                                        packed_bytes<T>, pack<T>, run<T>};
    return algorithm;
}

template const Algorithm<std::int8_t>& integer_gemm<std::int8_t>();
template const Algorithm<std::uint8_t>& integer_gemm<std::uint8_t>();
template const Algorithm<std::int16_t>& integer_gemm<std::int16_t>();
template const Algorithm<std::uint16_t>& integer_gemm<std::uint16_t>();

}  // namespace fastconv
