// Deformable convolution (Dai et al., "Deformable convolutional networks", 2017; with a mask Zhu et
// al., 2019): every tap samples the image at a place of its own, between pixels.
//
// A sample is four pixels times four weights, and a sample of all channels is four runs of memory
// where the channels of a pixel lie side by side: images that hold planes are turned first, a few
// images at a time, which moves each pixel once where sampling reads it some forty times. The
// matrix product packs samples instead of pixels, a register tile at a time: the unfolded image is
// never larger than that. Weights are packed before, once for all tasks.
#include "conv/deform.hpp"

#include <algorithm>

#include "conv/gemm_blocking.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 17;
// Pixels that one task turns.
constexpr Index kTurnedPixels = 128;
// Turned images of one pass, in total, unless a single one is larger.
constexpr Index kTurnedBytes = Index(4) << 20;

Index whole_lines(Index bytes) {
    constexpr Index kLineBytes = 64;
    return ceil_div(bytes, kLineBytes) * kLineBytes;
}

// How a problem is cut: passes of a few images, turned first where they hold planes.
struct Plan {
    Blocking blocking;
    int threads;
    Index images;  // of one pass
    Index image_elements, thread_bytes;
    Index turned_bytes, packed_bytes;
    Index group_elements, panels;  // packed weights of one group

    Index bytes(int used) const { return turned_bytes + packed_bytes + used * thread_bytes; }
};

template <class T>
Plan make_plan(const Problem& problem, const Resources& resources, bool turns) {
    Plan plan{};
    plan.threads = useful_threads(problem, resources.threads, kThreadMacs);
    // an image that only its strides make so large cannot be turned, and that is found out when
    // memory for it is asked for
    constexpr Index kMost = Index(1) << 55;
    const bool fits = double(problem.h) * double(problem.w) * double(problem.c) < double(kMost);
    plan.image_elements = fits ? problem.h * problem.w * problem.c : kMost;
    const Index bytes = plan.image_elements * Index(sizeof(T));
    plan.images = turns ? std::clamp<Index>(kTurnedBytes / bytes, 1, problem.n) : problem.n;
    plan.turned_bytes = turns ? whole_lines(plan.images * bytes) : 0;
    Problem pass = problem;
    pass.n = plan.images;
    plan.blocking =
        make_sampled_blocking(pass, gemm_shape<T>(), plan.threads, resources.thread_bytes);
    plan.thread_bytes = kernels_for<T>().im2col_gemm_scratch(plan.blocking);
    plan.panels = ceil_div(problem.k / problem.groups, kernels_for<T>().tile.cols);
    plan.group_elements = kernels_for<T>().im2col_gemm_packed(plan.blocking);
    // one more tells whether all are finite, which only steps that may be left out ask for
    plan.packed_bytes = whole_lines((problem.groups * plan.group_elements + 1) * Index(sizeof(T)));
    return plan;
}

// Packs the weights of all groups.
template <class T>
bool pack(const Problem& problem, const Plan& plan, const View<const T>& w, T* to,
          const Interrupt& interrupt) {
    const auto pack_panel = kernels_for<T>().deform_pack;
    const Index outputs = problem.k / problem.groups, panel = plan.group_elements / plan.panels;
    const auto task = [&](Index index, int) {
        const Index group = index / plan.panels;
        View<const T> of_group = w;
        of_group.data += group * outputs * w.stride[0];
        pack_panel(problem, of_group, index % plan.panels, to + index * panel);
    };
    return parallel_for(problem.groups * plan.panels, plan.threads, task, interrupt);
}

// Turns images [first, first + count) of x into `to`.
template <class T>
bool turn(const Problem& problem, const View<const T>& x, Index first, Index count, T* to,
          int threads, const Interrupt& interrupt) {
    const auto interleave = kernels_for<T>().interleave_channels;
    const bool joined = x.stride[2] == problem.w * x.stride[3];
    const Index rows = joined ? 1 : problem.h;
    const Index width = joined ? problem.h * problem.w : problem.w;
    const Index blocks = ceil_div(width, kTurnedPixels);
    const auto task = [&](Index index, int) {
        const Index begin = index % blocks * kTurnedPixels, line = index / blocks;
        const Index row = line % rows, image = line / rows;
        const T* from = x.data + (first + image) * x.stride[0] + row * x.stride[2];
        interleave(to + (line * width + begin) * problem.c, from + begin * x.stride[3], problem.c,
                   x.stride[1], std::min(kTurnedPixels, width - begin), x.stride[3]);
    };
    return parallel_for(count * rows * blocks, threads, task, interrupt);
}

// The arrays of images from `first` on.
template <class T>
DeformJob<T> job_of_pass(const Problem& problem, const DeformOperands<T>& arrays, Index first,
                         Index count) {
    DeformJob<T> job{
        {problem, arrays.conv, {}, problem.q}, arrays.offset, arrays.mask, arrays.offset_groups};
    job.gemm.problem.n = count;
    job.gemm.arrays.x.data += first * arrays.conv.x.stride[0];
    job.gemm.arrays.y.data += first * arrays.conv.y.stride[0];
    job.offset.data += first * arrays.offset.stride[0];
    if (job.mask.data) job.mask.data += first * arrays.mask.stride[0];
    return job;
}

}  // namespace

template <class T>
Footprint deform_footprint(const Problem& problem, const Resources& resources) {
    const Plan plan = make_plan<T>(problem, resources, !problem.channels_last);
    const int used = int(std::min<Index>(plan.threads, std::max<Index>(1, plan.blocking.tasks)));
    return {plan.bytes(used), used};
}

template <class T>
Status deform(const Problem& problem, const DeformOperands<T>& arrays, const Resources& resources,
              const Interrupt& interrupt) {
    const bool turns = arrays.conv.x.stride[1] != 1 && problem.c > 1;
    const Plan plan = make_plan<T>(problem, resources, turns);
    const int used = int(std::min<Index>(plan.threads, plan.blocking.tasks));
    char* memory = static_cast<char*>(thread_workspace(std::size_t(plan.bytes(used))));
    if (!memory) return Status::kNoMemory;
    T* turned = reinterpret_cast<T*>(memory);
    T* packed = reinterpret_cast<T*>(memory + plan.turned_bytes);
    char* scratch = memory + plan.turned_bytes + plan.packed_bytes;
    if (!pack(problem, plan, arrays.conv.w, packed, interrupt)) return Status::kInterrupted;
    const auto deform_task = kernels_for<T>().deform_task;
    for (Index first = 0; first < problem.n; first += plan.images) {
        const Index count = std::min(plan.images, problem.n - first);
        DeformJob<T> job = job_of_pass(problem, arrays, first, count);
        packed[problem.groups * plan.group_elements] = T(0);
        job.gemm.arrays.packed = packed;
        job.gemm.blocking = plan.blocking;
        job.gemm.blocking.tasks = plan.blocking.tasks / plan.images * count;
        if (turns) {
            if (!turn(problem, arrays.conv.x, first, count, turned, plan.threads, interrupt)) {
                return Status::kInterrupted;
            }
            job.gemm.arrays.x = {turned,
                                 {plan.image_elements, 1, problem.w * problem.c, problem.c}};
        }
        const bool completed = parallel_for(
            job.gemm.blocking.tasks, used,
            [&](Index task, int thread) {
                deform_task(job, task, scratch + thread * plan.thread_bytes);
            },
            interrupt);
        if (!completed) return Status::kInterrupted;
    }
    return Status::kOk;
}

template Footprint deform_footprint<float>(const Problem&, const Resources&);
template Footprint deform_footprint<double>(const Problem&, const Resources&);
template Status deform<float>(const Problem&, const DeformOperands<float>&, const Resources&,
                              const Interrupt&);
template Status deform<double>(const Problem&, const DeformOperands<double>&, const Resources&,
                               const Interrupt&);

}  // namespace fastconv
