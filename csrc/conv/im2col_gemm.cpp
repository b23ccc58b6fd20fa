// im2col folded into the packing of a five-loop GEMM (Goto and van de Geijn, "Anatomy of
// high-performance matrix multiplication", 2008): takes every legal problem.
#include "conv/im2col_gemm.hpp"

#include <algorithm>

#include "conv/gemm_blocking.hpp"
#include "conv/gemm_job.hpp"
#include "conv/tasks.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 18;
// Calls of several images pack at least so many bytes of weights once, if these meet at most so
// many pixels of an image. Channels last, and several taps: a task would pack all taps of a panel
// together, and pass over its pixels once a panel. Elsewhere as much is lost as gained.
constexpr Index kPackedWeights = 1 << 20, kPixels = 256;
// Packed weights of several groups, larger than this, come from memory for every image, unless all
// images of a group follow one another.
constexpr Index kKeptWeights = 8 << 20;

template <class T>
Blocking blocking_for(const Problem& problem, const Resources& resources, bool packed) {
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    return make_blocking(problem, gemm_shape<T>(), threads, resources.thread_bytes, packed);
}

int threads_for(const Problem& problem, const Resources& resources, const Blocking& blocking) {
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    return int(std::min<Index>(threads, std::max<Index>(1, blocking.tasks)));
}

bool takes(const Problem&, bool) {
    return true;
}

// What packing needs to know of a blocking is the same for every batch and number of threads.
template <class T>
Blocking packed_blocking(const Problem& problem) {
    return blocking_for<T>(problem, {1, Index(8) << 20, false}, true);
}

template <class T>
Index packed_bytes(const Problem& problem) {
    const Index group = kernels_for<T>().im2col_gemm_packed(packed_blocking<T>(problem));
    return (problem.groups * group + 1) * Index(sizeof(T));  // one tells whether all are finite
}

// Bytes of the weights that a call packs before its tasks begin, or 0.
template <class T>
Index packed_first(const Problem& problem, const Resources& resources) {
    const Index taps = problem.r * problem.s;
    const Index weights = problem.k * (problem.c / problem.groups) * taps * Index(sizeof(T));
    const bool pays = problem.channels_last && taps > 1 && problem.n >= kPackedImages &&
                      problem.p * problem.q <= kPixels && weights >= kPackedWeights;
    if (!pays) return 0;
    const Index bytes = packed_bytes<T>(problem);
    const Index room =
        useful_threads(problem, resources.threads, kThreadMacs) * resources.thread_bytes;
    return bytes <= room ? bytes : 0;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
    const Index weights = packed ? 0 : packed_first<T>(problem, resources);
    const Blocking blocking = blocking_for<T>(problem, resources, packed || weights > 0);
    const int threads = threads_for(problem, resources, blocking);
    return {threads * kernels_for<T>().im2col_gemm_scratch(blocking) + weights, threads};
}

template <class T>
void pack(const Problem& problem, const View<const T>& w, void* packed) {
    kernels_for<T>().im2col_gemm_pack(problem, packed_blocking<T>(problem), w,
                                      static_cast<T*>(packed));
}

template <class T>
Status run(const Problem& problem, const Operands<T>& given, const Resources& resources,
           const Interrupt& interrupt) {
    const Index weights = given.packed ? 0 : packed_first<T>(problem, resources);
    Operands<T> arrays = given;
    if (weights) arrays.packed = &arrays;  // any address: the memory is not there yet
    GemmTasks<T> gemm = im2col_gemm_tasks<T>(problem, arrays, resources);
    const Index bytes = gemm.thread_bytes, of_threads = gemm.threads * bytes;
    char* scratch = static_cast<char*>(thread_workspace(std::size_t(of_threads + weights)));
    if (!scratch) return Status::kNoMemory;
    if (weights) {
        void* packed = scratch + of_threads;
        if (!pack_together<T>({im2col_gemm_packing<T>(problem, given.w, packed)}, gemm.threads,
                              interrupt)) {
            return Status::kInterrupted;
        }
        gemm.job.arrays.packed = packed;
    }
    gemm.job.blocking.groups_first = arrays.packed && packed_bytes<T>(problem) > kKeptWeights;
    const bool completed = parallel_for(
        gemm.job.blocking.tasks, gemm.threads,
        [&](Index task, int thread) { gemm.run(task, scratch + thread * bytes); }, interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

}  // namespace

template <class T>
GemmTasks<T> im2col_gemm_tasks(const Problem& problem, const Operands<T>& arrays,
                               const Resources& resources, const OutputTaps& taps) {
    const bool packed = arrays.packed != nullptr;
    GemmJob<T> job{problem, arrays, blocking_for<T>(problem, resources, packed), problem.q, taps};
    fit_to_arrays(job);
    return {job, threads_for(problem, resources, job.blocking),
            kernels_for<T>().im2col_gemm_scratch(job.blocking)};
}

template <class T>
GemmPacking<T> im2col_gemm_packing(const Problem& problem, const View<const T>& w, void* packed) {
    return {problem, packed_blocking<T>(problem), w, static_cast<T*>(packed)};
}

template <class T>
const Algorithm<T>& im2col_gemm() {
    static const Algorithm<T> algorithm{"im2col_gemm",   takes,   footprint<T>,
                                        packed_bytes<T>, pack<T>, run<T>};
    return algorithm;
}

template GemmTasks<float> im2col_gemm_tasks(const Problem&, const Operands<float>&,
                                            const Resources&, const OutputTaps&);
template GemmTasks<double> im2col_gemm_tasks(const Problem&, const Operands<double>&,
                                             const Resources&, const OutputTaps&);
template GemmPacking<float> im2col_gemm_packing(const Problem&, const View<const float>&, void*);
template GemmPacking<double> im2col_gemm_packing(const Problem&, const View<const double>&, void*);
template const Algorithm<float>& im2col_gemm<float>();
template const Algorithm<double>& im2col_gemm<double>();

}  // namespace fastconv
