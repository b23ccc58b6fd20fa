// Kernels of one row, of any length, on one or few channels: signals, and the rows of an image.
// Lanes are pixels. The row is read as an image of rows of a few dozen pixels under a kernel of
// rows of as many taps (kernels/signal_tile.hpp): a tile of several such rows of y stays in
// registers, and a vector of x that is loaded serves them all.
#include <algorithm>
#include <numeric>

#include "conv/algorithm.hpp"
#include "conv/phases.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"

namespace fastconv {
namespace {

// Below this much work a thread costs more to wake than it computes, and a task more to hand out
// than it evens out; work is multiply-adds, and what an output costs beside them.
constexpr double kThreadWork = 1 << 17, kTaskWork = 1 << 18, kOutputWork = 16;
constexpr double kTasksPerThread = 8;
constexpr Index kLine = 64;
constexpr Index kLeastBytes = 1 << 16;  // of scratch, which every thread is granted

// Groups of more channels, on either side, have enough reuse for a matrix product.
constexpr Index kMostInputs = 4, kMostOutputs = 3;
// Kernels up to this size on one channel of many belong to depthwise layers.
constexpr Index kDepthwiseKernel = 9, kImageChannels = 4;
// Copies of x taken apart by a stride.
constexpr Index kMostPhases = 8;
// Weights of a group that are packed at once, and pixels under the taps between two visits to y.
constexpr Index kWholeWeights = 4096, kStretchPixels = 2048;

// Elements of scratch of one thread.
template <class T>
Index thread_elements(const Problem& problem, const SignalBlocking& b, bool packed) {
    const Phases wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    const Index line = kLine / Index(sizeof(T));
    const Index elements =
        (packed ? 0 : b.weights) + wide.used * b.window + problem.k / problem.groups * b.extent;
    return ceil_div(elements, line) * line;
}

template <class T>
bool fits(const Problem& problem, const SignalBlocking& b) {
    return thread_elements<T>(problem, b, false) * Index(sizeof(T)) <= kLeastBytes;
}

// Cuts for tiles of one shape. Rows of a tile are a whole number of tiles and of taps apart.
template <class T>
SignalBlocking shaped_blocking(const Problem& problem, int shape) {
    const Kernels<T>& kernels = kernels_for<T>();
    const TileShape tile = kernels.signal_tiles[shape];
    const Phases wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    SignalBlocking b{};
    b.shape = shape;
    b.tile_rows = tile.rows;
    if (tile.rows > 1) {
        b.row_pitch = std::lcm(wide.step, tile.cols * kernels.lanes);
        b.taps = b.row_pitch / wide.step * wide.period;
        b.block = tile.rows * b.row_pitch;
    } else {
        const Index steps = std::max<Index>(1, kStretchPixels / wide.step);
        b.taps = std::min(problem.s, std::min(kMaxSignalTaps / wide.period, steps) * wide.period);
        b.row_pitch = ceil_div(b.taps, wide.period) * wide.step;
        b.block = tile.cols * kernels.lanes;
    }
    b.kernel_rows = ceil_div(problem.s, b.taps);
    const Index most = std::clamp(kStretchPixels / b.row_pitch, 2 * tile.rows, kMaxSignalRows);
    b.stretches = ceil_div(b.kernel_rows, most);
    const Index rows = ceil_div(b.kernel_rows, b.stretches);
    const Index group = problem.k / problem.groups * (problem.c / problem.groups);
    const Index all = group * b.kernel_rows * b.taps;
    b.whole_weights = all <= kWholeWeights;
    b.weights = b.whole_weights ? all : rows * b.taps;
    b.extent = b.block + kernels.signal_tiles[2].cols * kernels.lanes;
    b.window = b.extent + rows * b.row_pitch + wide.step;
    return b;
}

// What follows from the kernel alone, and so serves a plan for any image: the tallest tile that the
// kernel has rows for.
template <class T>
SignalBlocking kernel_blocking(const Problem& problem) {
    for (int shape = 0; shape < 2; ++shape) {
        const SignalBlocking b = shaped_blocking<T>(problem, shape);
        if (b.kernel_rows >= b.tile_rows && b.taps <= kMaxSignalTaps && fits<T>(problem, b)) {
            return b;
        }
    }
    return shaped_blocking<T>(problem, 2);
}

template <class T>
SignalBlocking make_blocking(const Problem& problem, int threads) {
    SignalBlocking b = kernel_blocking<T>(problem);
    b.blocks = ceil_div(problem.q, b.block);
    b.units = problem.n * problem.groups * problem.p * b.blocks;
    const double outputs = double(problem.n) * double(problem.k) * double(problem.p * problem.q);
    const double work = multiply_adds(problem) + outputs * kOutputWork;
    const double wanted = std::min(kTasksPerThread * threads, work / kTaskWork);
    b.tasks = std::clamp<Index>(Index(wanted), 1, b.units);
    return b;
}

int threads_for(const Problem& problem, int threads) {
    const double outputs = double(problem.n) * double(problem.k) * double(problem.p * problem.q);
    const double work = multiply_adds(problem) + outputs * kOutputWork;
    return int(std::max(1.0, std::min(double(threads_at_most(threads)), work / kThreadWork)));
}

template <class T>
bool takes(const Problem& problem, bool) {
    const Index inputs = problem.c / problem.groups, outputs = problem.k / problem.groups;
    if (problem.r != 1 || problem.s == 1) return false;
    if (inputs > kMostInputs || outputs > kMostOutputs) return false;
    if (problem.groups > kImageChannels && inputs == 1 && problem.s <= kDepthwiseKernel) {
        return false;
    }
    const Phases wide = make_phases(problem.s, problem.stride_w, problem.dilation_w);
    // beyond them scratch would be too small, whatever the cut
    if (wide.period > kMostPhases || wide.step > kStretchPixels) return false;
    return fits<T>(problem, kernel_blocking<T>(problem));
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
    const int threads = threads_for(problem, resources.threads);
    const SignalBlocking b = make_blocking<T>(problem, threads);
    const int used = int(std::min<Index>(threads, b.tasks));
    return {used * thread_elements<T>(problem, b, packed) * Index(sizeof(T)), used};
}

template <class T>
Index packed_bytes(const Problem& problem) {
    const SignalBlocking b = kernel_blocking<T>(problem);
    return problem.k * (problem.c / problem.groups) * b.kernel_rows * b.taps * Index(sizeof(T));
}

template <class T>
void pack(const Problem& problem, const View<const T>& w, void* packed) {
    kernels_for<T>().signal_pack(problem, kernel_blocking<T>(problem), w, static_cast<T*>(packed));
}

template <class T>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    const int threads = threads_for(problem, resources.threads);
    const SignalJob<T> job{problem, arrays, make_blocking<T>(problem, threads)};
    const Index elements = thread_elements<T>(problem, job.blocking, arrays.packed != nullptr);
    return run_tasks(job, kernels_for<T>().signal_task, job.blocking.tasks, threads, elements,
                     interrupt);
}

}  // namespace

template <class T>
const Algorithm<T>& direct_signal() {
    static const Algorithm<T> algorithm{"direct_signal", takes<T>, footprint<T>, packed_bytes<T>,
                                        pack<T>,         run<T>,   true};
    return algorithm;
}

template const Algorithm<float>& direct_signal<float>();
template const Algorithm<double>& direct_signal<double>();

}  // namespace fastconv
