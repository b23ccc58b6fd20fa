// Images that shrink to one pixel without a border: squeeze-and-excitation, classifiers. Weights,
// which are all there is to read, are read where they lie; packing would move them twice.
#include <algorithm>

#include "conv/algorithm.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 16;
constexpr Index kTasksPerThread = 4, kLeastOutputs = 16;
// Groups of fewer outputs read their image for too little.
constexpr Index kFewOutputs = 8;
// Adding up the lanes of an output costs as much as so many vectors; a plan's packed weights need
// no such sum.
constexpr Index kLeastVectors = 16;
// Of scratch, which every thread is granted.
constexpr Index kLeastBytes = 1 << 16;

template <class T>
Index thread_elements(const Problem& problem) {
    const Index line = 64 / Index(sizeof(T));
    return ceil_div(kernels_for<T>().dot_scratch(problem), line) * line;
}

template <class T>
bool takes(const Problem& problem, bool) {
    const bool pixel = problem.p == 1 && problem.q == 1 && problem.pad_top == 0 &&
                       problem.pad_left == 0 && (problem.r - 1) * problem.dilation_h < problem.h &&
                       (problem.s - 1) * problem.dilation_w < problem.w;
    const Index depth = problem.c / problem.groups * problem.r * problem.s;
    return pixel && depth >= kLeastVectors * kernels_for<T>().lanes &&
           problem.k / problem.groups >= kFewOutputs &&
           thread_elements<T>(problem) * Index(sizeof(T)) <= kLeastBytes;
}

int threads_for(const Problem& problem, const Resources& resources) {
    return useful_threads(problem, resources.threads, kThreadMacs);
}

template <class T>
DotJob<T> make_job(const Problem& problem, const Operands<T>& arrays, int threads) {
    const Index outputs = problem.k / problem.groups;
    const Index batches = ceil_div(problem.n, kernels_for<T>().dot_images);
    const Index wanted = ceil_div(kTasksPerThread * threads, batches * problem.groups);
    const Index block = std::max(kLeastOutputs, ceil_div(outputs, wanted));
    DotJob<T> job{problem, arrays, ceil_div(block, kLeastOutputs) * kLeastOutputs, 0, 0};
    job.blocks = ceil_div(outputs, job.block);
    job.tasks = batches * problem.groups * job.blocks;
    return job;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool) {
    const int threads = threads_for(problem, resources);
    const DotJob<T> job = make_job<T>(problem, {}, threads);
    const int used = int(std::min<Index>(threads, std::max<Index>(1, job.tasks)));
    return {used * thread_elements<T>(problem) * Index(sizeof(T)), used};
}

Index packed_bytes(const Problem&) {
    return 0;
}

template <class T>
void pack(const Problem&, const View<const T>&, void*) {}

template <class T>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    const int threads = threads_for(problem, resources);
    const DotJob<T> job = make_job(problem, arrays, threads);
    return run_tasks<T>(job, kernels_for<T>().dot_task, job.tasks, threads,
                        thread_elements<T>(problem), interrupt);
}

}  // namespace

template <class T>
const Algorithm<T>& dot_product() {
    static const Algorithm<T> algorithm{"dot_product", takes<T>, footprint<T>,
                                        packed_bytes,  pack<T>,  run<T>};
    return algorithm;
}

template const Algorithm<float>& dot_product<float>();
template const Algorithm<double>& dot_product<double>();

}  // namespace fastconv
