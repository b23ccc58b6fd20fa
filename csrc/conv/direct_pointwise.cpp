// 1x1 kernels of few output channels: the heads of networks that label pixels. A pixel is read once
// for one to four outputs, so that a matrix product would move more than it multiplies: x is read
// where it lies, in the order of memory, and y in strips whose sums stay in the first-level cache.
#include <algorithm>

#include "conv/algorithm.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 17;
// A task of fewer multiply-adds costs more to hand out than it evens out.
constexpr double kTaskMacs = 1 << 16;
constexpr Index kTasksPerThread = 8;
constexpr Index kMostOutputs = 4, kLeastInputs = 5;
// The sums of one output in a strip.
constexpr Index kStripBytes = 4 << 10;

template <class T>
bool takes(const Problem& problem, bool) {
    const Group group = group_of(problem);
    const bool pointwise = problem.r == 1 && problem.s == 1 && problem.p == problem.h &&
                           problem.q == problem.w && problem.stride_h == 1 &&
                           problem.stride_w == 1 && problem.pad_top == 0 && problem.pad_left == 0;
    // sums in scratch are no gain where they fit registers and wait for each other
    const bool few = !problem.channels_last && problem.p * problem.q < kernels_for<T>().lanes;
    return pointwise && !few && group.outputs <= kMostOutputs && group.channels >= kLeastInputs;
}

template <class T>
bool is_dense(const Problem& problem, const Operands<T>& arrays) {
    return arrays.x.stride[2] == problem.w * arrays.x.stride[3] &&
           arrays.y.stride[2] == problem.w * arrays.y.stride[3];
}

// The problem where rows of x and y follow one another: an image is one long row.
Problem join_rows(Problem problem) {
    problem.q = problem.w = problem.h * problem.w;
    problem.p = problem.h = 1;
    return problem;
}

template <class T>
PointwiseCut make_cut(const Problem& problem, int threads) {
    const Index lanes = kernels_for<T>().lanes, longest = kStripBytes / Index(sizeof(T));
    const Index rows = problem.n * problem.groups * problem.p, vectors = ceil_div(problem.q, lanes);
    const double macs = multiply_adds(problem);
    const Index wanted =
        std::max<Index>(1, Index(std::min(double(kTasksPerThread * threads), macs / kTaskMacs)));
    PointwiseCut cut{};
    cut.strips = std::max(ceil_div(vectors * lanes, longest), ceil_div(wanted, rows));
    cut.strips = std::min(cut.strips, vectors);
    cut.units = rows * cut.strips;
    cut.task_units = ceil_div(cut.units, wanted);
    cut.tasks = ceil_div(cut.units, cut.task_units);
    cut.elements = problem.channels_last ? 0 : kMostOutputs * longest;
    return cut;
}

int threads_for(const Problem& problem, const Resources& resources) {
    return useful_threads(problem, resources.threads, kThreadMacs);
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool) {
    const int threads = threads_for(problem, resources);
    const PointwiseCut cut = make_cut<T>(join_rows(problem), threads);
    const int used = int(std::min<Index>(threads, cut.tasks));
    return {used * cut.elements * Index(sizeof(T)), used};
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
    PointwiseJob<T> job{is_dense(problem, arrays) ? join_rows(problem) : problem, arrays, {}};
    job.cut = make_cut<T>(job.problem, threads);
    return run_tasks(job, kernels_for<T>().pointwise_task, job.cut.tasks, threads, job.cut.elements,
                     interrupt);
}

}  // namespace

template <class T>
const Algorithm<T>& direct_pointwise() {
    static const Algorithm<T> algorithm{"direct_pointwise", takes<T>, footprint<T>,
                                        packed_bytes,       pack<T>,  run<T>};
    return algorithm;
}

template const Algorithm<float>& direct_pointwise<float>();
template const Algorithm<double>& direct_pointwise<double>();

}  // namespace fastconv
