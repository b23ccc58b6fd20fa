// Image filters: one or few input channels and few output channels of each group, kernels of any
// size. Lanes are pixels; a tile of several rows of y stays in registers for all taps, and every
// vector of x that is loaded serves all the rows it belongs to, so that large kernels run at the
// rate of multiply-adds and small ones at that of memory.
#include <algorithm>

#include "conv/algorithm.hpp"
#include "conv/phases.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 17;
// A task of fewer multiply-adds costs more to hand out than it evens out.
constexpr double kTaskMacs = 1 << 18;
constexpr Index kTasksPerThread = 8;
constexpr Index kLargestLanes = 16;
constexpr Index kLine = 64;
constexpr Index kRunBytes = 24 << 10;

// Groups of more channels than this, on either side, have enough reuse for a matrix product.
constexpr Index kMostInputs = 4, kMostOutputs = 3;
// Kernels up to this size on one channel of many belong to depthwise layers.
constexpr Index kDepthwiseKernel = 9, kImageChannels = 4;

// Elements of a copied row under `cols` pixels of y.
Index row_elements(const Problem& problem, Index cols) {
    const Phases wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    return wide.used * (cols + wide.reach(problem.s));
}

bool takes(const Problem& problem, bool) {
    const Index inputs = problem.c / problem.groups, outputs = problem.k / problem.groups;
    if (inputs > kMostInputs || outputs > kMostOutputs) return false;
    if (problem.r * problem.s == 1) return false;
    if (problem.groups > kImageChannels && inputs == 1 &&
        std::max(problem.r, problem.s) <= kDepthwiseKernel) {
        return false;
    }
    return problem.s <= kMaxFilterCols && row_elements(problem, kLargestLanes) <= kMaxFilterCols;
}

template <class T>
Index group_weights(const Problem& problem) {
    return problem.k / problem.groups * (problem.c / problem.groups) * problem.r * problem.s;
}

// Scratch of one thread in elements.
template <class T>
Index thread_elements(const Problem& problem, const FilterBlocking& b, bool packed) {
    Index weights = b.whole_weights ? group_weights<T>(problem) : b.row_block * problem.s;
    if (packed) weights = 0;
    const Index row = row_elements(problem, b.run_vectors * kernels_for<T>().lanes);
    const Index line = kLine / Index(sizeof(T));
    return ceil_div(weights + (b.tile_rows + b.row_block) * row, line) * line;
}

// The smallest number of kernel rows that one visit to y has decides the rows of a tile.
template <class T>
void choose_tile(FilterBlocking& b, const Problem& problem) {
    const Phases tall = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    Index fewest = problem.r, most = 0;
    for (Index phase = 0; phase < tall.used; ++phase) {
        const Index rows = ceil_div(problem.r - phase, tall.period);
        const Index rest = rows % b.row_block ? rows % b.row_block : b.row_block;
        fewest = std::min({fewest, rest, b.row_block});
        most = std::max(most, std::min(rows, b.row_block));
    }
    const Index full = kernels_for<T>().filter_tile.rows;
    const bool small = fewest == kSmallFilterRows && most == kSmallFilterRows;
    b.tile_rows = small ? full : std::min(fewest, full);
}

// Rows of x that are copied should stay in the first-level cache until the tiles read them, and are
// not copied in pieces shorter than a tile.
template <class T>
void choose_run(FilterBlocking& b, const Problem& problem, Index room) {
    const Index lanes = kernels_for<T>().lanes, rows = b.tile_rows + b.row_block;
    room = std::min(room, kRunBytes / Index(sizeof(T)));
    b.run_vectors = b.tile_vectors;
    const Index most = ceil_div(problem.q, lanes);
    while (b.run_vectors < most &&
           rows * row_elements(problem, 2 * b.run_vectors * lanes) <= room) {
        b.run_vectors *= 2;
    }
}

template <class T>
FilterBlocking make_blocking(const Problem& problem, int threads, Index thread_bytes) {
    const Kernels<T>& kernels = kernels_for<T>();
    const Phases tall = make_phases(problem.r, problem.stride_h, problem.dilation_h);
    const Index rows = ceil_div(problem.r, tall.period), weights = group_weights<T>(problem);
    const Index room = (thread_bytes - kLine) / Index(sizeof(T));
    FilterBlocking b{};
    b.whole_weights = weights <= room / 4;
    const Index fixed = b.whole_weights ? weights : 0;
    const Index per_row = b.whole_weights ? 0 : problem.s;
    for (b.tile_vectors = kernels.filter_tile.cols;; --b.tile_vectors) {
        const Index row = row_elements(problem, b.tile_vectors * kernels.lanes);
        const Index fits = (room - fixed - kernels.filter_tile.rows * row) / (row + per_row);
        b.row_block = std::min({rows, kMaxFilterRowBlock, std::max<Index>(1, fits)});
        if (b.tile_vectors == 1 || fits >= std::min(rows, 4 * kernels.filter_tile.rows)) break;
    }
    b.row_block = ceil_div(rows, ceil_div(rows, b.row_block));
    choose_tile<T>(b, problem);
    choose_run<T>(b, problem, room - fixed - per_row * b.row_block);

    b.phases = std::min(tall.step, problem.p);
    b.bands = ceil_div(ceil_div(problem.p, b.phases), b.tile_rows);
    const Index images = problem.n * problem.groups, bands = b.phases * b.bands;
    const double macs = multiply_adds(problem);
    const double tasks = std::min(double(kTasksPerThread * threads), macs / kTaskMacs);
    const Index wanted = std::max<Index>(1, Index(tasks / double(images)));
    b.task_bands = ceil_div(bands, std::min(bands, wanted));
    b.group_tasks = ceil_div(bands, b.task_bands);
    b.tasks = images * b.group_tasks;
    return b;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    const FilterBlocking blocking = make_blocking<T>(problem, threads, resources.thread_bytes);
    const int used = int(std::min<Index>(threads, std::max<Index>(1, blocking.tasks)));
    return {used * thread_elements<T>(problem, blocking, packed) * Index(sizeof(T)), used};
}

template <class T>
Index packed_bytes(const Problem& problem) {
    return problem.groups * group_weights<T>(problem) * Index(sizeof(T));
}

template <class T>
void pack(const Problem& problem, const View<const T>& w, void* packed) {
    kernels_for<T>().filter_pack(problem, w, static_cast<T*>(packed));
}

template <class T>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    const FilterJob<T> job{problem, arrays,
                           make_blocking<T>(problem, threads, resources.thread_bytes)};
    const Index elements = thread_elements<T>(problem, job.blocking, arrays.packed != nullptr);
    return run_tasks(job, kernels_for<T>().filter_task, job.blocking.tasks, threads, elements,
                     interrupt);
}

}  // namespace

template <class T>
const Algorithm<T>& direct_filter() {
    static const Algorithm<T> algorithm{"direct_filter", takes,  footprint<T>, packed_bytes<T>,
                                        pack<T>,         run<T>, true};
    return algorithm;
}

template const Algorithm<float>& direct_filter<float>();
template const Algorithm<double>& direct_filter<double>();

}  // namespace fastconv
