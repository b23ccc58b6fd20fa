// im2col folded into the packing of a five-loop GEMM (Goto and van de Geijn, "Anatomy of
// high-performance matrix multiplication", 2008): takes every legal problem.
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

// A packed block of columns should stay in half of the second-level cache; one that is reused for
// very many rows may live in the next level.
Index pixel_block_bytes() {
    static const Index bytes =
        std::clamp<Index>(second_level_cache_bytes() / 2, 128 << 10, 1 << 20);
    return bytes;
}
constexpr Index kKernelBlockBytes = 1 << 20;
// A row of pixels is packed once for every block of columns: blocks are not made narrower than
// this many panels even where they outgrow the cache.
constexpr Index kWidePanels = 4;
// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 18;
// Output channels become vector lanes where they fill at least this part of a tile.
constexpr Index kLeastLanes = 4;
// Threads beyond a few per processor only wait for each other, and creating them can fail.
constexpr int kThreadsPerProcessor = 4;

// What one step of the reduction costs, in multiply-adds on vectors: packing one vector of pixels,
// one output channel as a column (gathered from strided weights), one row. Estimates from counted
// instructions; they only have to rank the ways of cutting.
constexpr double kPackPixelVector = 6.0;
constexpr double kPackChannelLane = 1.5;
constexpr double kPackRow = 0.3;
// Share of one task's time that the last thread is waited for: cores are slowed down by what else
// runs on them, and small tasks even that out.
constexpr double kWait = 0.1;

// Estimated time of the slowest thread when a problem is cut into this many blocks.
struct Cut {
    Index col_blocks, row_blocks;
    double time;
};

Cut estimate(const Blocking& b, TileShape tile, Index vectors, Index images, int threads,
             Index col_blocks, Index row_blocks) {
    const Index panels = ceil_div(ceil_div(b.cols, tile.cols), col_blocks);
    const Index rows = ceil_div(b.rows, row_blocks);
    const double tiles = double(panels) * double(ceil_div(rows, tile.rows));
    const double pack_panel =
        b.pixel_rows ? kPackChannelLane * double(tile.cols) : kPackPixelVector * double(vectors);
    const double task =
        tiles * double(tile.rows * vectors) + double(panels) * pack_panel + double(rows) * kPackRow;
    const Index rounds = ceil_div(images * col_blocks * row_blocks, threads);
    return {col_blocks, row_blocks, task * (double(rounds) + kWait)};
}

// Cuts rows and columns so that the slowest thread has least to do: few panels do not divide
// evenly, and cutting one side packs the other once more for every block.
Cut best_cut(const Blocking& b, TileShape tile, Index vectors, Index images, int threads,
             Index least_col_blocks) {
    const Index panels = ceil_div(b.cols, tile.cols), row_panels = ceil_div(b.rows, tile.rows);
    Cut best = estimate(b, tile, vectors, images, threads, least_col_blocks, 1);
    if (threads == 1) return best;
    // beyond this many tasks for each thread uneven shares no longer matter
    const Index enough = 16 * threads;
    const Index most_cols = std::max(least_col_blocks, std::min(panels, enough / images));
    for (Index col_blocks = least_col_blocks; col_blocks <= most_cols; ++col_blocks) {
        const Index most_rows = std::min(row_panels, enough / (images * col_blocks));
        for (Index row_blocks = 1; row_blocks <= std::max<Index>(1, most_rows); ++row_blocks) {
            const Cut cut = estimate(b, tile, vectors, images, threads, col_blocks, row_blocks);
            if (cut.time < best.time) best = cut;
        }
    }
    return best;
}

template <class T>
Blocking make_blocking(const Problem& problem, int threads, Index thread_bytes) {
    const Kernels<T>& kernels = kernels_for<T>();
    const Index pixels = problem.p * problem.q, outputs = problem.k / problem.groups;
    Blocking b{};
    b.pixel_rows = problem.channels_last && outputs * kLeastLanes >= kernels.tile.cols;
    b.rows = b.pixel_rows ? pixels : outputs;
    b.cols = b.pixel_rows ? outputs : pixels;
    b.depth = problem.c / problem.groups * problem.r * problem.s;
    b.depth_blocks = ceil_div(b.depth, kernels.max_depth_block);
    b.depth_block = ceil_div(b.depth, b.depth_blocks);
    b.depth_blocks = ceil_div(b.depth, b.depth_block);

    // How many panels of columns a block may have, and how much of the depth is packed at a time:
    // weights as columns serve very many rows, so that all of their depth is packed where it fits.
    const Index panel = kernels.tile.cols, panels = ceil_div(b.cols, panel);
    const Index block_bytes = b.depth_block * panel * Index(sizeof(T));
    const Index room = thread_bytes / 2;
    b.depth_chunk = 1;
    Index most_panels = std::min(pixel_block_bytes(), room) / block_bytes;
    if (b.pixel_rows) {
        const Index whole_bytes = b.depth_blocks * block_bytes;
        b.depth_chunk = std::max<Index>(1, std::min(b.depth_blocks, room / block_bytes));
        most_panels = std::max(std::min(kKernelBlockBytes, room) / whole_bytes,
                               std::min(kWidePanels, room / whole_bytes));
    }
    most_panels = std::max<Index>(1, most_panels);
    const Index images = problem.n * problem.groups;
    const Cut cut = best_cut(b, kernels.tile, kernels.tile.cols / kernels.lanes, images, threads,
                             ceil_div(panels, most_panels));
    b.col_block = ceil_div(panels, cut.col_blocks) * panel;
    b.col_blocks = ceil_div(b.cols, b.col_block);
    b.row_block = ceil_div(b.rows, cut.row_blocks);
    b.row_blocks = ceil_div(b.rows, b.row_block);
    b.tasks = images * b.row_blocks * b.col_blocks;
    return b;
}

// A 1x1 kernel that touches every pixel once sees an image as one long row.
template <class T>
void join_rows(Problem& problem, Operands<T>& arrays) {
    const bool pointwise = problem.r == 1 && problem.s == 1 && problem.stride_h == 1 &&
                           problem.stride_w == 1 && problem.p == problem.h &&
                           problem.q == problem.w && problem.pad_top == 0 && problem.pad_left == 0;
    const bool dense_x = arrays.x.stride[2] == problem.w * arrays.x.stride[3];
    const bool dense_y = arrays.y.stride[2] == problem.q * arrays.y.stride[3];
    if (!pointwise || !dense_x || !dense_y) return;
    problem.w *= problem.h;
    problem.q *= problem.p;
    problem.h = problem.p = 1;
}

int useful_threads(const Problem& problem, int threads) {
    const double macs = double(problem.n) * double(problem.k) * double(problem.p) *
                        double(problem.q) * double(problem.c / problem.groups) * double(problem.r) *
                        double(problem.s);
    const int processors = std::max(2, int(std::thread::hardware_concurrency()));
    threads = std::min(threads, kThreadsPerProcessor * processors);
    return int(std::max(1.0, std::min(double(threads), macs / kThreadMacs)));
}

// Scratch of one thread in elements, a whole number of cache lines.
template <class T>
Index thread_elements(const Blocking& blocking) {
    const Index line = 64 / Index(sizeof(T));
    return ceil_div(kernels_for<T>().im2col_gemm_scratch(blocking), line) * line;
}

bool takes(const Problem&, bool) {
    return true;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool) {
    const int threads = useful_threads(problem, resources.threads);
    const Blocking blocking = make_blocking<T>(problem, threads, resources.thread_bytes);
    const int used = int(std::min<Index>(threads, std::max<Index>(1, blocking.tasks)));
    return {used * thread_elements<T>(blocking) * Index(sizeof(T)), used};
}

Index packed_bytes(const Problem&) {
    return 0;
}

template <class T>
void pack(const Problem&, const View<const T>&, void*) {}

template <class T>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    const int threads = useful_threads(problem, resources.threads);
    GemmJob<T> job{problem, arrays, make_blocking<T>(problem, threads, resources.thread_bytes)};
    join_rows(job.problem, job.arrays);
    const Index elements = thread_elements<T>(job.blocking);
    const Index used = std::min<Index>(threads, job.blocking.tasks);
    T* scratch = static_cast<T*>(thread_workspace(std::size_t(used * elements) * sizeof(T)));
    if (!scratch) return Status::kNoMemory;
    const auto task_function = kernels_for<T>().im2col_gemm_task;
    const bool completed = parallel_for(
        job.blocking.tasks, int(used),
        [&](Index task, int thread) { task_function(job, task, scratch + thread * elements); },
        interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

}  // namespace

template <class T>
const Algorithm<T>& im2col_gemm() {
    static const Algorithm<T> algorithm{"im2col_gemm", takes,   footprint<T>,
                                        packed_bytes,  pack<T>, run<T>};
    return algorithm;
}

template const Algorithm<float>& im2col_gemm<float>();
template const Algorithm<double>& im2col_gemm<double>();

}  // namespace fastconv
