// The gradient of x where every group is one channel: with stride 1 the convolution of gy with taps
// turned round, and one pass for 3 x 3 kernels with stride 2.
#include <algorithm>

#include "conv/input_grad.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"

namespace fastconv {
namespace {

constexpr double kThreadWork = 1 << 14;
// Elements of gx that a task computes at least, tasks for each thread, and the bounds of blocks of
// rows: each reads a row of gy that the one before it has read.
constexpr Index kTaskElements = 8192, kTasksPerThread = 8, kLeastPairs = 4;
constexpr Index kTaps = 9;

bool is_strided(const Problem& problem) {
    return problem.stride_h != 1 || problem.stride_w != 1;
}

// Rows or columns of gy before the first one that the first of gx meets; never negative.
Index before(Index taps, Index dilation, Index pad) {
    return (taps - 1) * dilation - pad;
}

// The convolution of gy that the gradient is where nothing is strided. It may read only some of the
// last rows and columns of gy.
Problem turned(const Problem& problem) {
    Problem y = problem;
    const Index reach_h = (problem.r - 1) * problem.dilation_h;
    const Index reach_w = (problem.s - 1) * problem.dilation_w;
    y.pad_top = before(problem.r, problem.dilation_h, problem.pad_top);
    y.pad_left = before(problem.s, problem.dilation_w, problem.pad_left);
    y.h = std::min(problem.p, problem.h + reach_h - y.pad_top);
    y.w = std::min(problem.q, problem.w + reach_w - y.pad_left);
    y.p = problem.h;
    y.q = problem.w;
    return y;
}

template <class T>
View<const T> turned_weights(const Problem& problem, View<const T> w) {
    w.data += (problem.r - 1) * w.stride[2] + (problem.s - 1) * w.stride[3];
    w.stride[2] = -w.stride[2];
    w.stride[3] = -w.stride[3];
    return w;
}

template <class T>
bool takes(const Problem& problem) {
    if (problem.groups != problem.c || problem.k != problem.c || problem.c == 1) return false;
    if (problem.pad_mode != PadMode::kConstant || problem.p < 1 || problem.q < 1) return false;
    if (is_strided(problem)) {
        // planes are read with masks; the first pair of rows is not before gy
        return problem.pad_top >= 0 && problem.pad_left >= 0 && problem.r == 3 && problem.s == 3 &&
               problem.stride_h == 2 && problem.stride_w == 2 && problem.dilation_h == 1 &&
               problem.dilation_w == 1 && problem.activation == Activation::kNone &&
               (problem.channels_last || kernels_for<T>().has_masks);
    }
    if (before(problem.r, problem.dilation_h, problem.pad_top) < 0 ||
        before(problem.s, problem.dilation_w, problem.pad_left) < 0) {
        return false;
    }
    const Problem y = turned(problem);
    return y.h > 0 && y.w > 0 && depthwise<T>().takes(y, false);
}

template <class T>
DepthwiseInputGradCut make_cut(const Problem& problem, bool channel_lanes, int& threads) {
    DepthwiseInputGradCut cut{};
    threads = useful_threads(problem, threads, kThreadWork);
    cut.first = problem.pad_top / 2;
    cut.pairs = (problem.h - 1 + problem.pad_top) / 2 + 1 - cut.first;
    const Index wanted = threads == 1 ? 1 : threads * kTasksPerThread;
    const Index units = channel_lanes ? problem.n : problem.n * problem.c;
    const Index unit = problem.h * problem.w * (channel_lanes ? problem.c : 1);
    const Index tasks = std::clamp<Index>(units * unit / kTaskElements, 1, wanted);
    const Index most = ceil_div(cut.pairs, kLeastPairs);
    const Index row_blocks = std::clamp<Index>(ceil_div(tasks, units), 1, most);
    cut.pair_block = ceil_div(cut.pairs, row_blocks);
    cut.row_blocks = ceil_div(cut.pairs, cut.pair_block);
    cut.planes = channel_lanes ? 1 : std::max<Index>(1, units / tasks);
    cut.tasks = ceil_div(units, cut.planes) * cut.row_blocks;
    cut.scratch = 2 * kernels_for<T>().lanes;
    threads = int(std::min<Index>(threads, cut.tasks));
    return cut;
}

// Taps and bias as vectors of channels.
template <class T>
Index tap_elements(const Problem& problem, bool channel_lanes) {
    const Index line = 64 / Index(sizeof(T));
    return channel_lanes ? ceil_div((kTaps + 1) * problem.c, line) * line : 0;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool) {
    if (!is_strided(problem)) return depthwise<T>().footprint(turned(problem), resources, false);
    int threads = resources.threads;
    const DepthwiseInputGradCut cut = make_cut<T>(problem, problem.channels_last, threads);
    const Index elements = tap_elements<T>(problem, problem.channels_last) + threads * cut.scratch;
    return {elements * Index(sizeof(T)), threads};
}

template <class T>
void pack_taps(const Problem& problem, const InputGradOperands<T>& arrays, T* to) {
    const View<const T>& w = arrays.w;
    for (Index r = 0; r < 3; ++r, to += 3 * problem.c) {
        kernels_for<T>().interleave_channels(to, w.data + r * w.stride[2], problem.c, w.stride[0],
                                             3, w.stride[3]);
    }
    if (arrays.bias) {
        std::copy(arrays.bias, arrays.bias + problem.c, to);
    } else {
        std::fill(to, to + problem.c, T(0));
    }
}

template <class T>
Status run_strided(const Problem& problem, const InputGradOperands<T>& arrays, int threads,
                   const Interrupt& interrupt) {
    const bool channel_lanes = arrays.gy.stride[1] == 1 && arrays.gx.stride[1] == 1;
    const DepthwiseInputGradCut cut = make_cut<T>(problem, channel_lanes, threads);
    const Index taps = tap_elements<T>(problem, channel_lanes);
    T* memory =
        static_cast<T*>(thread_workspace(std::size_t(taps + threads * cut.scratch) * sizeof(T)));
    if (!memory) return Status::kNoMemory;
    if (channel_lanes) pack_taps(problem, arrays, memory);
    const DepthwiseInputGradJob<T> job{problem, arrays.gy, arrays.w, arrays.bias,
                                       memory,  arrays.gx, cut};
    const auto function =
        channel_lanes ? kernels_for<T>().input_grad_pixels : kernels_for<T>().input_grad_planes;
    const bool completed = parallel_for(
        cut.tasks, threads,
        [&](Index task, int thread) { function(job, task, memory + taps + thread * cut.scratch); },
        interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

template <class T>
Status run(const Problem& problem, const InputGradOperands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    if (is_strided(problem)) return run_strided(problem, arrays, resources.threads, interrupt);
    const Problem y = turned(problem);
    Operands<T> operands{};
    operands.x = arrays.gy;
    operands.w = turned_weights(problem, arrays.w);
    operands.bias = arrays.bias;
    operands.y = arrays.gx;
    return depthwise<T>().run(y, operands, resources, interrupt);
}

template <class T>
std::string name(const Problem& problem, bool) {
    return is_strided(problem) ? "input_grad_depthwise" : depthwise<T>().name;
}

Index packed_bytes(const Problem&, bool) {
    return 0;
}

template <class T>
Status pack(const Problem&, bool, const View<const T>&, void*) {
    return Status::kOk;
}

}  // namespace

template <class T>
const InputGradAlgorithm<T>& input_grad_depthwise() {
    static const InputGradAlgorithm<T> algorithm{takes<T>,     name<T>, footprint<T>,
                                                 packed_bytes, pack<T>, run<T>};
    return algorithm;
}

template const InputGradAlgorithm<float>& input_grad_depthwise();
template const InputGradAlgorithm<double>& input_grad_depthwise();

}  // namespace fastconv
