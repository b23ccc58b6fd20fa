#include "conv/requantise.hpp"

#include <algorithm>

#include "conv/tasks.hpp"
#include "cpu.hpp"

namespace fastconv {
namespace {

// Elements of a task, and of one that is worth a thread: some microseconds.
constexpr Index kTask = 1 << 15, kThread = 1 << 16;

}  // namespace

Status requantise(const Requantisation& job, int threads, const Interrupt& interrupt) {
    const auto kernel = active_strips().requantise;
    const Index tasks = (job.elements + kTask - 1) / kTask;
    const int used =
        int(std::clamp<Index>(job.elements / kThread, 1, std::max(1, threads_at_most(threads))));
    const bool completed = parallel_for(
        tasks, used,
        [&](Index task, int) {
            const Index end = std::min(job.elements, (task + 1) * kTask);
            for (Index at = task * kTask; at < end;) {
                const Index row = at / job.length, column = at % job.length;
                const Index count = std::min(job.length - column, end - at);
                const float* scale = job.scale + (job.each ? column : row % job.scales);
                kernel(job.sums + at, count, scale, job.each, job.to, job.out + at);
                at += count;
            }
        },
        interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

}  // namespace fastconv
