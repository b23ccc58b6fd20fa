// im2col folded into the packing of a five-loop GEMM (Goto and van de Geijn, "Anatomy of
// high-performance matrix multiplication", 2008): takes every legal problem.
#include <algorithm>
#include <thread>

#include "conv/conv.hpp"
#include "cpu.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

Index ceil_div(Index a, Index b) {
    return (a + b - 1) / b;
}

// A packed block of B should stay in half of a second-level cache; one that is reused for very
// many rows may live in the next level.
constexpr Index kPixelBlockBytes = 256 << 10;
constexpr Index kKernelBlockBytes = 1 << 20;
// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 16;
// Columns and rows of a task below which packing the other operand is no longer paid for.
constexpr Index kLeastColPanels = 4;
constexpr Index kLeastPixelRows = 512;
// Output channels become vector lanes where they fill at least this part of a tile.
constexpr Index kLeastLanes = 4;
// Threads beyond a few per processor only wait for each other, and creating them can fail.
constexpr int kThreadsPerProcessor = 4;

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

    const Index panel = kernels.tile.cols, panels = ceil_div(b.cols, panel);
    const Index images = problem.n * problem.groups;
    const Index wanted_bytes =
        std::min(b.pixel_rows ? kKernelBlockBytes : kPixelBlockBytes, thread_bytes);
    const Index wanted_tasks = threads > 1 ? 4 * threads : 1;
    b.depth_chunk = b.pixel_rows ? b.depth_blocks : 1;
    Index panels_per_block;
    if (b.pixel_rows) {
        const Index panel_bytes = b.depth * panel * Index(sizeof(T));
        panels_per_block = std::max(wanted_bytes / panel_bytes, kLeastColPanels);
        while (panels_per_block > 1 && panels_per_block * panel_bytes > thread_bytes / 2) {
            panels_per_block /= 2;
        }
        if (panel_bytes > thread_bytes / 2) {
            const Index block_bytes = b.depth_block * panel * Index(sizeof(T));
            b.depth_chunk = std::max<Index>(1, thread_bytes / 2 / block_bytes);
        }
    } else {
        const Index panel_bytes = b.depth_block * panel * Index(sizeof(T));
        panels_per_block = std::max<Index>(1, wanted_bytes / panel_bytes);
        // smaller blocks where there would be too few of them to keep every thread busy
        const Index blocks = std::min(ceil_div(wanted_tasks, images), panels / kLeastColPanels);
        if (blocks > 1) panels_per_block = std::min(panels_per_block, ceil_div(panels, blocks));
    }
    b.col_blocks = ceil_div(panels, panels_per_block);
    b.col_block = ceil_div(panels, b.col_blocks) * panel;
    b.col_blocks = ceil_div(b.cols, b.col_block);

    b.row_blocks = 1;
    const Index others = images * b.col_blocks;
    if (b.pixel_rows) {
        b.row_blocks = std::min(ceil_div(wanted_tasks, others), ceil_div(b.rows, kLeastPixelRows));
    }
    if (others * b.row_blocks < threads) {
        b.row_blocks = std::min(ceil_div(threads, others), ceil_div(b.rows, kernels.tile.rows));
    }
    b.row_block = ceil_div(b.rows, b.row_blocks);
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

}  // namespace

template <class T>
Plan plan_im2col_gemm(const Problem& problem, const Resources& resources) {
    const int threads = useful_threads(problem, resources.threads);
    const Blocking blocking = make_blocking<T>(problem, threads, resources.thread_bytes);
    const int used = int(std::min<Index>(threads, std::max<Index>(1, blocking.tasks)));
    return {"im2col_gemm", used * thread_elements<T>(blocking) * Index(sizeof(T)), used};
}

template <class T>
Status run_im2col_gemm(const Problem& problem, const Operands<T>& arrays,
                       const Resources& resources, const Interrupt& interrupt) {
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

template Plan plan_im2col_gemm<float>(const Problem&, const Resources&);
template Plan plan_im2col_gemm<double>(const Problem&, const Resources&);
template Status run_im2col_gemm<float>(const Problem&, const Operands<float>&, const Resources&,
                                       const Interrupt&);
template Status run_im2col_gemm<double>(const Problem&, const Operands<double>&, const Resources&,
                                        const Interrupt&);

}  // namespace fastconv
