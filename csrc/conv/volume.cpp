// Volumes by the implicit GEMM: a plane of y is an image whose reduction runs over all planes of
// the kernel (kernels/kernel_planes.hpp), so that no sums but those of a register tile wait for
// another plane, and nothing is unfolded.
//
// Planes of y that see the volume through the same planes of the kernel are images of one batch;
// those near its ends see fewer, always neighbouring ones, and are batches of shorter sums. The
// tasks of all batches are one loop. Weights are packed before, once for all of them.
#include <algorithm>
#include <new>
#include <vector>

#include "conv/algorithm.hpp"
#include "conv/gemm_blocking.hpp"
#include "conv/gemm_job.hpp"
#include "conv/gemm_packing.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 18;

// Consecutive planes of y, and the planes of the kernel through which all of them see the volume.
struct Batch {
    Index first, count;
    Index tap, taps;
};

// The planes of the kernel that plane `o` of y sees the volume through.
Batch batch_of(const Problem& problem, Index o) {
    const Index first = o * problem.stride_d - problem.pad_front;  // the plane that tap 0 meets
    const auto reached = [&](Index plane) {                        // taps before it
        const Index taps = plane > first ? ceil_div(plane - first, problem.dilation_d) : 0;
        return std::min(problem.t, taps);
    };
    const Index begin = reached(0), end = reached(problem.d);
    return {o, 1, end > begin ? begin : 0, end - begin};
}

std::vector<Batch> batches(const Problem& problem) {
    std::vector<Batch> found;
    for (Index o = 0; o < problem.o; ++o) {
        const Batch next = batch_of(problem, o);
        if (!found.empty() && found.back().tap == next.tap && found.back().taps == next.taps) {
            ++found.back().count;
        } else {
            found.push_back(next);
        }
    }
    const auto work = [](const Batch& batch) { return batch.count * batch.taps; };
    std::stable_sort(found.begin(), found.end(),
                     [&](const Batch& a, const Batch& b) { return work(a) > work(b); });
    return found;
}

bool sees_all(const Problem& problem, const Batch& batch) {
    return batch.taps == problem.t;
}

// The problem of a batch: one that sees nothing multiplies one plane of the kernel with zeros.
Problem problem_of(const Problem& problem, const Batch& batch) {
    Problem part = problem;
    part.o = batch.count;
    part.t = std::max<Index>(1, batch.taps);
    return part;
}

template <class T>
Blocking blocking_of(const Problem& problem, const Batch& batch, const Resources& resources,
                     bool lanes) {
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    const Problem part = problem_of(problem, batch);
    Blocking blocking =
        make_packed_blocking(part, gemm_shape<T>(), threads, resources.thread_bytes, lanes);
    const Index plane = blocking.depth / part.t;
    blocking.packed_first = batch.tap * plane;
    blocking.packed_depth = problem.t * plane;
    return blocking;
}

// What packing needs to know is the same for every batch, number of threads and workspace.
template <class T>
Blocking packed_blocking(const Problem& problem) {
    const GemmShape shape = gemm_shape<T>();
    return make_packed_blocking(problem, shape, 1, Index(8) << 20, packs_lanes(problem, shape));
}

// Elements of all packed weights; one more tells whether they are finite.
template <class T>
Index packed_elements(const Problem& problem, const Blocking& blocking) {
    return problem.groups * kernels_for<T>().im2col_gemm_packed(blocking) + 1;
}

template <class T>
bool pack_weights(const Problem& problem, const Blocking& blocking, const View<const T>& w,
                  T* packed, int threads, const Interrupt& interrupt) {
    return pack_together<T>({{problem, blocking, w, packed}}, threads, interrupt);
}

// The bias of a batch where weights are not finite: planes of the kernel outside of the volume
// multiply zeros, which adds 0 or NaN to a sum.
template <class T>
std::vector<T> bias_outside(const Problem& problem, const Operands<T>& arrays, const Batch& batch) {
    std::vector<T> bias(std::size_t(problem.k), T(0));
    const View<const T>& w = arrays.w;
    for (Index k = 0; k < problem.k; ++k) {
        T sum = arrays.bias ? arrays.bias[k] : T(0);
        for (Index t = 0; t < problem.t; ++t) {
            if (t >= batch.tap && t < batch.tap + batch.taps) continue;
            for (Index c = 0; c < problem.c / problem.groups; ++c) {
                for (Index tap = 0; tap < problem.r * problem.s; ++tap) {
                    const Index r = tap / problem.s, s = tap % problem.s;
                    sum += T(0) * w.data[k * w.stride[0] + c * w.stride[1] + t * w.plane +
                                         r * w.stride[2] + s * w.stride[3]];
                }
            }
        }
        bias[std::size_t(k)] = sum;
    }
    return bias;
}

bool takes(const Problem& problem, bool) {
    return is_volume(problem);
}

template <class T>
Index packed_bytes(const Problem& problem) {
    return packed_elements<T>(problem, packed_blocking<T>(problem)) * Index(sizeof(T));
}

template <class T>
void pack(const Problem& problem, const View<const T>& w, void* packed) {
    pack_weights(problem, packed_blocking<T>(problem), w, static_cast<T*>(packed), 1, {});
}

// Scratch of all threads, and behind it the weights that a call packs.
struct Memory {
    Index thread, packed;
    int threads;

    Index scratch() const { return threads * thread; }
};

template <class T>
Memory memory_of(const Problem& problem, const std::vector<Blocking>& blockings,
                 const Resources& resources, bool packed) {
    Memory memory{0, 0, 1};
    Index tasks = 0;
    for (const Blocking& blocking : blockings) {
        memory.thread = std::max(memory.thread, kernels_for<T>().im2col_gemm_scratch(blocking));
        tasks += blocking.tasks;
    }
    const int useful = useful_threads(problem, resources.threads, kThreadMacs);
    memory.threads = int(std::min<Index>(useful, std::max<Index>(1, tasks)));
    if (!packed) memory.packed = packed_bytes<T>(problem);
    return memory;
}

template <class T>
std::vector<Blocking> blockings_of(const Problem& problem, const std::vector<Batch>& found,
                                   const Resources& resources) {
    const bool lanes = packs_lanes(problem, gemm_shape<T>());
    std::vector<Blocking> blockings;
    for (const Batch& batch : found) {
        blockings.push_back(blocking_of<T>(problem, batch, resources, lanes));
    }
    return blockings;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
    const std::vector<Blocking> blockings = blockings_of<T>(problem, batches(problem), resources);
    const Memory memory = memory_of<T>(problem, blockings, resources, packed);
    return {memory.scratch() + memory.packed, memory.threads};
}

// The matrix product of one batch.
template <class T>
GemmJob<T> job_of(const Problem& problem, const Operands<T>& arrays, const Blocking& blocking,
                  const Batch& batch) {
    static constexpr T kZeros[64] = {};
    GemmJob<T> job{problem_of(problem, batch), arrays, blocking, problem.q};
    View<const T>& x = job.arrays.x;
    if (batch.taps == 0) {
        x = {kZeros, {0, 0, 0, 0}, 0};
    } else {
        x.data +=
            (batch.first * problem.stride_d - problem.pad_front + batch.tap * problem.dilation_d) *
            x.plane;
    }
    job.arrays.y.data += batch.first * arrays.y.plane;
    fit_to_arrays(job);
    return job;
}

template <class T>
Status run_batches(const Problem& problem, const Operands<T>& given, const Resources& resources,
                   const Interrupt& interrupt) {
    const std::vector<Batch> found = batches(problem);
    const std::vector<Blocking> blockings = blockings_of<T>(problem, found, resources);
    const Memory memory = memory_of<T>(problem, blockings, resources, given.packed != nullptr);
    char* scratch =
        static_cast<char*>(thread_workspace(std::size_t(memory.scratch() + memory.packed)));
    if (!scratch) return Status::kNoMemory;
    Operands<T> arrays = given;
    if (!arrays.packed) {
        T* packed = reinterpret_cast<T*>(scratch + memory.scratch());
        if (!pack_weights(problem, packed_blocking<T>(problem), arrays.w, packed, memory.threads,
                          interrupt)) {
            return Status::kInterrupted;
        }
        arrays.packed = packed;
    }
    const Index elements = packed_elements<T>(problem, blockings.front());
    const bool finite = static_cast<const T*>(arrays.packed)[elements - 1] != 0;
    std::vector<GemmJob<T>> jobs;
    std::vector<std::vector<T>> biases(found.size());
    std::vector<Index> ends;
    for (std::size_t i = 0; i < found.size(); ++i) {
        jobs.push_back(job_of(problem, arrays, blockings[i], found[i]));
        if (!finite && !sees_all(problem, found[i])) {
            biases[i] = bias_outside(problem, arrays, found[i]);
            jobs.back().arrays.bias = biases[i].data();
        }
        ends.push_back((ends.empty() ? 0 : ends.back()) + blockings[i].tasks);
    }
    const auto task_function = kernels_for<T>().im2col_gemm_task;
    const bool completed = parallel_for(
        ends.back(), memory.threads,
        [&](Index task, int thread) {
            const std::size_t job =
                std::size_t(std::upper_bound(ends.begin(), ends.end(), task) - ends.begin());
            const Index first = job == 0 ? 0 : ends[job - 1];
            task_function(jobs[job], task - first, scratch + thread * memory.thread);
        },
        interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

template <class T>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    try {
        return run_batches(problem, arrays, resources, interrupt);
    } catch (const std::bad_alloc&) {
        return Status::kNoMemory;
    }
}

}  // namespace

template <class T>
const Algorithm<T>& volume() {
    static const Algorithm<T> algorithm{"im2col_gemm",   takes,   footprint<T>,
                                        packed_bytes<T>, pack<T>, run<T>};
    return algorithm;
}

template const Algorithm<float>& volume<float>();
template const Algorithm<double>& volume<double>();

}  // namespace fastconv
