// The gradient of w of groups of few channels: vectors hold the channels of several groups.
#include <algorithm>

#include "conv/sizes.hpp"
#include "conv/weight_grad_tasks.hpp"

namespace fastconv {
namespace {

// Pixels of a box: copies of them stay in the first-level cache.
constexpr Index kBoxPixels = 256;
// Pixels that the copy of x may have.
constexpr Index kMostCopied = 8192;
constexpr Index kMostStep = 1 << 10;
// Tasks wanted whatever the number of threads, as it changes the sums: chunks make them of so many
// channels and at least so many multiply-adds.
constexpr Index kTasks = 16, kTaskChannels = 16, kMostChunks = 8;
constexpr double kChunkWork = 1 << 18, kThreadWork = 1 << 17;

template <class S>
Index groups_of_vector(const Problem& problem) {
    const Group group = group_of(problem);
    const Index lanes = kernels_for<GradSum<S>>().lanes;
    return std::min({lanes / group.channels, lanes / group.outputs, problem.groups});
}

// Rows (or columns) of x that so many outputs read, `step` apart.
Index copied(Index outputs, Index taps, Index stride, Index dilation, Index step) {
    return (outputs - 1) * (stride / step) + (taps - 1) * dilation + 1;
}

template <class S>
GroupedGradCut make_cut(const Problem& problem) {
    GroupedGradCut cut{};
    cut.step_h = problem.r == 1 ? problem.stride_h : 1;
    cut.step_w = problem.s == 1 ? problem.stride_w : 1;
    const Index area = problem.stride_h / cut.step_h * (problem.stride_w / cut.step_w);
    const Index pixels = kBoxPixels * 4 / Index(sizeof(GradSum<S>));
    cut.box = make_pixel_box(problem, std::max<Index>(1, pixels / std::min(pixels, area)));
    cut.boxes = count_boxes(problem, cut.box);
    cut.image_rows =
        copied(cut.box.rows, problem.r, problem.stride_h, problem.dilation_h, cut.step_h);
    cut.image_cols =
        copied(cut.box.cols, problem.s, problem.stride_w, problem.dilation_w, cut.step_w);
    cut.groups = groups_of_vector<S>(problem);
    const Index blocks = ceil_div(problem.c, kTaskChannels);
    const Index most = std::min(kMostChunks, cut.boxes);
    cut.chunks = 1;
    while (2 * cut.chunks <= most && cut.chunks * blocks < kTasks &&
           multiply_adds(problem) > 2 * kChunkWork * double(cut.chunks)) {
        cut.chunks *= 2;
    }
    const Index vectors = ceil_div(problem.groups, cut.groups);
    cut.task_vectors = std::max<Index>(1, vectors * cut.chunks / kTasks);
    cut.parts = ceil_div(vectors, cut.task_vectors);
    return cut;
}

template <class S>
GradShares share(const Problem& problem, const Resources& resources, const GroupedGradCut& cut) {
    const auto scratch = [&] {
        if constexpr (kHalf<S>)
            return half_grads_for<S>().grouped_scratch;
        else
            return kernels_for<S>().grouped_grad_scratch;
    }();
    const int threads = useful_threads(problem, resources.threads, kThreadWork);
    return grad_shares<S>(problem, cut.parts * cut.chunks, cut.chunks, threads,
                          scratch(problem, cut));
}

template <class S>
Footprint footprint(const Problem& problem, const Resources& resources) {
    return share<S>(problem, resources, make_cut<S>(problem)).template footprint<GradSum<S>>();
}

template <class S>
Status run(const Problem& problem, const WeightGradOperands<S>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    using T = GradSum<S>;
    if (problem.n == 0) return add_chunks<T>(problem, arrays.gw, nullptr, 0, 1, interrupt);
    GroupedGradJob<T> job{problem, {}, {}, {}, nullptr, make_cut<S>(problem)};
    return run_grad<S>(job, arrays, share<S>(problem, resources, job.cut), interrupt, [](auto&) {
        if constexpr (kHalf<S>)
            return half_grads_for<S>().grouped_task;
        else
            return kernels_for<S>().grouped_grad_task;
    });
}

}  // namespace

template <class S>
bool takes_weight_grad_grouped(const Problem& problem) {
    constexpr Index kLeastLanes = 8;  // narrower vectors are permuted lane by lane
    if (problem.groups < 2 || kernels_for<GradSum<S>>().lanes < kLeastLanes) return false;
    const Group group = group_of(problem);
    if (groups_of_vector<S>(problem) < 2 || group.outputs > kMostGroupOutputs) return false;
    if (problem.r * problem.s > kMaxChannelTaps ||
        std::max({problem.stride_h, problem.stride_w, problem.dilation_h, problem.dilation_w}) >
            kMostStep) {
        return false;
    }
    const GroupedGradCut cut = make_cut<S>(problem);
    return cut.box.images * cut.image_rows * cut.image_cols <= kMostCopied;
}

template <class S>
const WeightGradAlgorithm<S>& weight_grad_grouped() {
    static const WeightGradAlgorithm<S> algorithm{"weight_grad_grouped", footprint<S>, run<S>};
    return algorithm;
}

template bool takes_weight_grad_grouped<float>(const Problem&);
template bool takes_weight_grad_grouped<double>(const Problem&);
template bool takes_weight_grad_grouped<Float16>(const Problem&);
template bool takes_weight_grad_grouped<Bfloat16>(const Problem&);
template const WeightGradAlgorithm<float>& weight_grad_grouped();
template const WeightGradAlgorithm<double>& weight_grad_grouped();
template const WeightGradAlgorithm<Float16>& weight_grad_grouped();
template const WeightGradAlgorithm<Bfloat16>& weight_grad_grouped();

}  // namespace fastconv
