// Depthwise convolution: every output channel reads one input channel, so that there is nothing to
// multiply as matrices. Sums of a few rows of y stay in registers while every input vector is
// loaded once per kernel column; both layouts run the same tile, with pixels or channels as lanes.
#include <algorithm>
#include <cmath>

#include "conv/algorithm.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"

namespace fastconv {
namespace {

// Larger kernels repay other methods.
constexpr Index kMostTaps = 9;
// A tile of this algorithm has at most 7 rows, and reads at most kMostSpan padded rows.
constexpr Index kTileRows = 7, kMostSpan = 128;
constexpr Index kLine = 64;
// Every thread may have this much scratch.
constexpr Index kLeastScratch = 64 << 10;
// Vector operations of a task that is worth handing out, and of one that is worth a thread.
constexpr double kTaskWork = 4096, kThreadWork = 8192;
// Tasks for each thread: enough that a core slowed by other work is not waited for.
constexpr double kTasksPerThread = 8;
// What reading or writing one vector costs beside a multiply-add.
constexpr double kVectorBytesWork = 3;
// x and y together are fetched ahead where they are larger than so many second-level caches.
constexpr double kCachedShare = 4;

template <class T>
bool lanes_are_channels(const Operands<T>& arrays) {
    return arrays.x.stride[1] == 1 && arrays.y.stride[1] == 1;
}

// Vector operations of all units together.
template <class T>
double total_work(const Problem& problem, const DepthwiseCut& cut) {
    const double lanes = double(depthwise_for<T>().lanes);
    const double pixels = double(problem.p) * double(problem.q);
    const double vectors = cut.channel_lanes ? pixels * std::ceil(double(problem.k) / lanes)
                                             : double(problem.k) * double(problem.p) *
                                                   std::ceil(double(problem.q) / lanes * 2) / 2;
    const double moved = double(problem.k) * (pixels + double(problem.h) * double(problem.w));
    return double(problem.n) *
           (vectors * double(problem.r * problem.s) + moved / lanes * kVectorBytesWork);
}

// Cuts into units of whole tiles of rows, and tasks of consecutive units.
template <class T>
DepthwiseCut make_cut(const Problem& problem, bool channel_lanes, int& threads) {
    DepthwiseCut cut{};
    cut.channel_lanes = channel_lanes;
    depthwise_for<T>().geometry(problem, cut);
    const double work = total_work<T>(problem, cut);
    threads = int(std::max(1.0, std::min(double(threads_at_most(threads)), work / kThreadWork)));
    const double wanted =
        threads == 1
            ? 1
            : std::max(double(threads), std::min(work / kTaskWork, kTasksPerThread * threads));
    const Index blocks = problem.n * (cut.channel_lanes ? cut.channel_blocks : problem.k);
    const Index tiles = ceil_div(problem.p, kTileRows);
    cut.row_blocks = std::clamp<Index>(Index(wanted) / blocks, 1, tiles);
    cut.row_block = ceil_div(tiles, cut.row_blocks) * kTileRows;
    cut.row_blocks = ceil_div(problem.p, cut.row_block);
    const Index image_bytes = problem.c * problem.h * problem.w * Index(sizeof(T)) +
                              problem.k * problem.p * problem.q * Index(sizeof(ResultOf<T>));
    cut.fetches =
        double(problem.n) * double(image_bytes) > kCachedShare * double(second_level_cache_bytes());
    cut.units = blocks * cut.row_blocks;
    cut.task_units = std::max<Index>(1, Index(double(cut.units) / wanted));
    cut.tasks = ceil_div(cut.units, cut.task_units);
    threads = int(std::min<Index>(threads, cut.tasks));
    return cut;
}

template <class T>
Index thread_bytes(const Problem& problem, const DepthwiseCut& cut) {
    return ceil_div(depthwise_for<T>().scratch(problem, cut) * depthwise_for<T>().sum_bytes,
                    kLine) *
           kLine;
}

template <class T>
bool takes(const Problem& problem, bool) {
    if (problem.groups != problem.c || problem.c == 1) return false;
    if (problem.r > kMostTaps || problem.s > kMostTaps) return false;
    // strides and dilations beyond those of networks would outgrow the scratch
    constexpr Index kMostStep = 1 << 10;
    if (std::max({problem.stride_h, problem.stride_w, problem.dilation_h, problem.dilation_w}) >
        kMostStep) {
        return false;
    }
    const Index span =
        (kTileRows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1;
    if (span > kMostSpan) return false;
    for (const bool channel_lanes : {false, true}) {
        DepthwiseCut cut{};
        cut.channel_lanes = channel_lanes;
        depthwise_for<T>().geometry(problem, cut);
        if (thread_bytes<T>(problem, cut) > kLeastScratch) return false;
    }
    return true;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool) {
    int threads = resources.threads;
    const DepthwiseCut cut = make_cut<T>(problem, problem.channels_last, threads);
    return {threads * thread_bytes<T>(problem, cut), threads};
}

template <class T>
Index packed_bytes(const Problem& problem) {
    const Index line = kLine / depthwise_for<T>().sum_bytes;
    return problem.r * problem.s * (ceil_div(problem.k, line) + 1) * kLine;
}

template <class T>
void pack(const Problem& problem, const View<const T>& w, void* packed) {
    depthwise_for<T>().pack(problem, w, packed);
}

template <class T>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    int threads = resources.threads;
    const DepthwiseJob<T> job{problem, arrays,
                              make_cut<T>(problem, lanes_are_channels(arrays), threads)};
    return run_tasks(job, depthwise_for<T>().task, job.cut.tasks, threads,
                     thread_bytes<T>(problem, job.cut), interrupt);
}

}  // namespace

template <class T>
const Algorithm<T>& depthwise() {
    static const Algorithm<T> algorithm{"depthwise",     takes<T>, footprint<T>,
                                        packed_bytes<T>, pack<T>,  run<T>};
    return algorithm;
}

template const Algorithm<float>& depthwise<float>();
template const Algorithm<double>& depthwise<double>();
template const Algorithm<std::int8_t>& depthwise<std::int8_t>();
template const Algorithm<std::uint8_t>& depthwise<std::uint8_t>();
template const Algorithm<std::int16_t>& depthwise<std::int16_t>();
template const Algorithm<std::uint16_t>& depthwise<std::uint16_t>();
template const Algorithm<Float16>& depthwise<Float16>();
template const Algorithm<Bfloat16>& depthwise<Bfloat16>();

}  // namespace fastconv
