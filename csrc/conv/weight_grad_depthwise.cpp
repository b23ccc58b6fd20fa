// The gradient of w where every group has one input channel.
#include <algorithm>

#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "conv/weight_grad.hpp"

namespace fastconv {
namespace {

constexpr Index kBoxPixels = 1024;
// Of boxes that are read in place: of planes, and of the pixels of all channels of a task, whose
// operands shall stay in a second-level cache.
constexpr Index kPlanePixels = 4096, kInPlacePixels = 256;
// Narrower planes leave most lanes idle; wider ones would need more masks.
constexpr Index kLeastPlane = 4, kWidestPlane = 256;
// Bytes of a pixel that one task reads: memory wants to be read in longer runs than vectors.
constexpr Index kPixelBytes = 512;
// Pixels that the copy of x may have, and output channels that share one of x.
constexpr Index kMostCopied = 8192, kMostOutputs = 8;
// Lanes are channels: fewer leave most of a vector idle.
constexpr Index kLeastChannels = 4;
// Tasks wanted of a problem whatever the number of threads, as it changes the sums: chunks make
// them of so many channels and at least so many multiply-adds.
constexpr Index kTasks = 16, kTaskChannels = 16, kMostChunks = 8;
constexpr double kChunkWork = 1 << 17, kThreadWork = 1 << 16;

Index image_extent(Index outputs, Index taps, Index stride, Index dilation) {
    return (outputs - 1) * stride + (taps - 1) * dilation + 1;
}

bool has_nine_taps(const Problem& problem) {
    return problem.r == 3 && problem.s == 3 && problem.dilation_h == 1 && problem.dilation_w == 1 &&
           problem.stride_h == problem.stride_w && problem.stride_h <= 2 &&
           problem.q <= kWidestPlane && problem.w <= 4 * kWidestPlane;
}

Index box_pixels(const Problem& problem, const DepthwiseGradCut& cut) {
    if (cut.planes) return kPlanePixels;
    if (cut.nine_taps) return std::max(problem.q, kInPlacePixels / problem.stride_h);
    // strides copy more than they read: boxes as large as their copies
    return std::max<Index>(
        1, kBoxPixels / std::min<Index>(kBoxPixels, problem.stride_h * problem.stride_w));
}

// Channels of a task.
template <class T>
Index channel_block(const Problem& problem, const DepthwiseGradCut& cut) {
    const Index lanes = kernels_for<T>().lanes;
    if (cut.planes) return std::min(problem.c, kTaskChannels);
    if (!cut.nine_taps) return lanes;
    // as many as leave enough tasks, with the boxes there are
    const Index vectors = ceil_div(problem.c, lanes);
    const Index most = std::clamp<Index>(vectors * std::min(cut.boxes, kTasks) / kTasks, 1,
                                         kPixelBytes / Index(sizeof(T)) / lanes);
    return ceil_div(vectors, ceil_div(vectors, most)) * lanes;
}

template <class T>
DepthwiseGradCut make_cut(const Problem& problem) {
    DepthwiseGradCut cut{};
    cut.nine_taps = has_nine_taps(problem) && kernels_for<T>().holds_nine_taps;
    cut.planes = cut.nine_taps && kernels_for<T>().has_masks && !problem.channels_last &&
                 problem.q >= kLeastPlane;
    cut.box = make_pixel_box(problem, box_pixels(problem, cut));
    cut.boxes = count_boxes(problem, cut.box);
    cut.image_rows = image_extent(cut.box.rows, problem.r, problem.stride_h, problem.dilation_h);
    cut.image_cols = image_extent(cut.box.cols, problem.s, problem.stride_w, problem.dilation_w);
    cut.block = channel_block<T>(problem, cut);
    cut.channel_blocks = ceil_div(problem.c, cut.block);
    const Index blocks = cut.nine_taps ? cut.channel_blocks : ceil_div(problem.c, kTaskChannels);
    const Index most = std::min(cut.nine_taps ? kTasks : kMostChunks, cut.boxes);
    cut.chunks = 1;
    while (2 * cut.chunks <= most && cut.chunks * blocks < kTasks &&
           multiply_adds(problem) > 2 * kChunkWork * double(cut.chunks)) {
        cut.chunks *= 2;
    }
    cut.tasks = cut.channel_blocks * cut.chunks;
    return cut;
}

int threads_for(const Problem& problem, const Resources& resources, const DepthwiseGradCut& cut) {
    const int threads = useful_threads(problem, resources.threads, kThreadWork);
    return int(std::clamp<Index>(cut.tasks, 1, threads));
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources) {
    const DepthwiseGradCut cut = make_cut<T>(problem);
    const int threads = threads_for(problem, resources, cut);
    const Index elements = threads * kernels_for<T>().depthwise_grad_scratch(problem, cut);
    return {(elements + partial_elements(problem, cut.chunks)) * Index(sizeof(T)), threads};
}

template <class T>
Status run(const Problem& problem, const WeightGradOperands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    if (problem.n == 0) {
        return add_chunks<T>(problem, arrays.gw, nullptr, 0, 1, interrupt);
    }
    DepthwiseGradJob<T> job{problem, arrays.x, arrays.gy, arrays.gw, nullptr, make_cut<T>(problem)};
    const int threads = threads_for(problem, resources, job.cut);
    const Index each = kernels_for<T>().depthwise_grad_scratch(problem, job.cut);
    const Index partial = partial_elements(problem, job.cut.chunks);
    T* memory =
        static_cast<T*>(thread_workspace(std::size_t(threads * each + partial) * sizeof(T)));
    if (!memory) return Status::kNoMemory;
    if (partial) job.partial = memory + threads * each;
    const auto task_function = kernels_for<T>().depthwise_grad_task;
    const bool completed = parallel_for(
        job.cut.tasks, threads,
        [&](Index task, int thread) { task_function(job, task, memory + thread * each); },
        interrupt);
    if (!completed) return Status::kInterrupted;
    if (!partial) return Status::kOk;
    return add_chunks<T>(problem, arrays.gw, job.partial, job.cut.chunks, threads, interrupt);
}

}  // namespace

template <class T>
bool takes_weight_grad_depthwise(const Problem& problem) {
    if (problem.groups != problem.c || problem.c < kLeastChannels) return false;
    if (problem.k / problem.groups > kMostOutputs || problem.r * problem.s > kMaxChannelTaps) {
        return false;
    }
    constexpr Index kMostStep = 1 << 10;
    if (std::max({problem.stride_h, problem.stride_w, problem.dilation_h, problem.dilation_w}) >
        kMostStep) {
        return false;
    }
    const DepthwiseGradCut cut = make_cut<T>(problem);
    return cut.nine_taps || cut.image_rows * cut.image_cols <= kMostCopied;
}

template <class T>
const WeightGradAlgorithm<T>& weight_grad_depthwise() {
    static const WeightGradAlgorithm<T> algorithm{"weight_grad_depthwise", footprint<T>, run<T>};
    return algorithm;
}

template bool takes_weight_grad_depthwise<float>(const Problem&);
template bool takes_weight_grad_depthwise<double>(const Problem&);
template const WeightGradAlgorithm<float>& weight_grad_depthwise();
template const WeightGradAlgorithm<double>& weight_grad_depthwise();

}  // namespace fastconv
