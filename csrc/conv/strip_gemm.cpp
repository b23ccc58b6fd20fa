// Operands of 8 and 16 bits: an implicit GEMM whose pixels are vector lanes. x is packed once per
// block of outputs, into words that the micro-kernel multiplies, and the kernel's taps read that
// strip at an offset instead of an unfolded image. Integers are exact modulo 2**32; floats are
// widened on the way, summed in float32 and rounded once.
//
// Sums of integers are the same in any order. Those of floats are one chain each, in an order that
// follows from the kernel and its channels alone.
#include <algorithm>

#include "conv/algorithm.hpp"
#include "conv/strip_blocking.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 19;

// Whose kernels an algorithm uses.
template <class T>
using Source = const StripKernels<T>& (*)();

const StripKernels<Bfloat16>& pairs() {
    return *bfloat16_pairs();
}

template <class T, Source<T> KERNELS>
StripShape shape_of() {
    const StripKernels<T>& kernels = KERNELS();
    return {kernels.members, kernels.rows,       kernels.lanes, kernels.vectors,
            kernels.ones,    kernels.keeps_sums, kernels.turns, Index(sizeof(T))};
}

// A kernel of one tap that touches every pixel once sees an image as one long row.
bool is_pointwise(const Problem& problem) {
    return problem.r == 1 && problem.s == 1 && problem.stride_h == 1 && problem.stride_w == 1 &&
           problem.p == problem.h && problem.q == problem.w && problem.pad_top == 0 &&
           problem.pad_left == 0;
}

template <class T>
void join_rows(Problem& problem, const Operands<T>& arrays) {
    if (!is_pointwise(problem) || arrays.x.stride[2] != problem.w * arrays.x.stride[3] ||
        arrays.y.stride[2] != problem.q * arrays.y.stride[3]) {
        return;
    }
    problem.w *= problem.h;
    problem.q *= problem.p;
    problem.h = problem.p = 1;
}

bool takes(const Problem&, bool) {
    return true;
}

// One pixel leaves nothing to share between outputs but x. Of the problem alone: sums of floats
// have an order of their own there.
bool is_one_pixel(const Problem& problem) {
    const Problem whole = whole_of(problem);
    return whole.p == 1 && whole.q == 1;
}

// Whole pairs of channels: half of one would be multiplied by zero, which spoils what is not
// finite.
bool takes_pairs(const Problem& problem, bool fast) {
    return fast && bfloat16_pairs() && !is_one_pixel(problem) &&
           problem.c / problem.groups % 2 == 0;
}

template <class T, Source<T> KERNELS>
StripBlocking blocking_for(const Problem& problem, const Resources& resources, int threads,
                           bool packed) {
    if (!is_one_pixel(problem)) {
        return make_strip_blocking(problem, shape_of<T, KERNELS>(), threads, resources.thread_bytes,
                                   packed);
    }
    StripBlocking b{};
    const Index outputs = problem.k / problem.groups;
    b.tasks = problem.n * problem.groups * ((outputs + kDotOutputs - 1) / kDotOutputs);
    b.scratch_bytes = 2 * kDotPart * Index(sizeof(T));
    return b;
}

// Of arrays whose rows cannot be joined, which take no less than others.
template <class T, Source<T> KERNELS>
Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    const StripBlocking b = blocking_for<T, KERNELS>(problem, resources, threads, packed);
    const int used = int(std::min<Index>(threads, std::max<Index>(1, b.tasks)));
    return {used * b.scratch_bytes, used};
}

template <class T, Source<T> KERNELS>
Index packed_bytes(const Problem& problem) {
    const StripBlocking b = make_strip_panels(problem, shape_of<T, KERNELS>());
    return problem.groups * b.panels * b.panel_bytes;
}

template <class T, Source<T> KERNELS>
void pack(const Problem& problem, const View<const T>& w, void* packed) {
    const StripBlocking b = make_strip_panels(problem, shape_of<T, KERNELS>());
    auto* to = static_cast<char*>(packed);
    View<const T> of_group = w;
    for (Index group = 0; group < problem.groups; ++group) {
        for (Index panel = 0; panel < b.panels; ++panel, to += b.panel_bytes) {
            KERNELS().pack_panel(problem, b, of_group, panel, 0, b.words, to);
        }
        of_group.data += problem.k / problem.groups * w.stride[0];
    }
}

template <class T, Source<T> KERNELS>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    StripJob<T> job{problem, arrays, {}};
    join_rows(job.problem, arrays);
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    job.blocking =
        blocking_for<T, KERNELS>(job.problem, resources, threads, arrays.packed != nullptr);
    const StripBlocking& b = job.blocking;
    const Index used = std::min<Index>(threads, b.tasks);
    auto* scratch = static_cast<char*>(thread_workspace(std::size_t(used * b.scratch_bytes)));
    if (!scratch) return Status::kNoMemory;
    const StripKernels<T>& kernels = KERNELS();
    const auto task_function = is_one_pixel(problem) ? kernels.dot_task : kernels.task;
    const bool completed = parallel_for(
        b.tasks, int(used),
        [&](Index task, int thread) {
            task_function(job, task, scratch + thread * b.scratch_bytes);
        },
        interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

template <class T, Source<T> KERNELS = strips_for<T>>
Algorithm<T> algorithm(const char* name, bool (*takes_it)(const Problem&, bool) = takes) {
    return {
        name,           takes_it, footprint<T, KERNELS>, packed_bytes<T, KERNELS>, pack<T, KERNELS>,
        run<T, KERNELS>};
}

}  // namespace

template <class T>
const Algorithm<T>& integer_gemm() {
    static const Algorithm<T> it = algorithm<T>("integer_gemm");
    return it;
}

template <class T>
const Algorithm<T>& half_gemm() {
    static const Algorithm<T> it = algorithm<T>("half_gemm");
    return it;
}

const Algorithm<Bfloat16>& bfloat16_gemm() {
    static const Algorithm<Bfloat16> it = algorithm<Bfloat16, pairs>("bfloat16_gemm", takes_pairs);
    return it;
}

template const Algorithm<std::int8_t>& integer_gemm<std::int8_t>();
template const Algorithm<std::uint8_t>& integer_gemm<std::uint8_t>();
template const Algorithm<std::int16_t>& integer_gemm<std::int16_t>();
template const Algorithm<std::uint16_t>& integer_gemm<std::uint16_t>();
template const Algorithm<Float16>& half_gemm<Float16>();
template const Algorithm<Bfloat16>& half_gemm<Bfloat16>();

}  // namespace fastconv
