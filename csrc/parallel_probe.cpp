#include "parallel_probe.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace fastconv {
namespace {

void pass_time(Index microseconds) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::microseconds(microseconds);
    while (microseconds > 0 && Clock::now() < end) {
    }
}

bool stays_on_its_thread() {
    const auto self = std::this_thread::get_id();
    bool stays = true;
    parallel_for(3, 3,
                 [&](Index, int thread) {
                     stays = stays && thread == 0 && std::this_thread::get_id() == self;
                 },
                 {});
    return stays;
}

}  // namespace

ParallelProbe probe_parallel_for(Index tasks, int threads, Index microseconds, bool nested,
                                 const Interrupt& interrupt) {
    const std::size_t numbers = std::size_t(std::max(1, threads));
    std::vector<std::atomic<int>> runs(std::size_t(std::max<Index>(0, tasks)));
    std::vector<std::atomic<int>> inside(numbers), used(numbers);
    std::atomic<Index> shared{0}, outside{0};
    const auto body = [&](Index task, int thread) {
        runs[std::size_t(task)].fetch_add(1);
        if (thread < 0 || thread >= threads) {
            outside.fetch_add(1);
            return;
        }
        const std::size_t number = std::size_t(thread);
        if (inside[number].fetch_add(1) > 0) shared.fetch_add(1);
        used[number].store(1);
        pass_time(microseconds);
        if (nested && !stays_on_its_thread()) outside.fetch_add(1);
        inside[number].fetch_sub(1);
    };
    ParallelProbe result{};
    result.completed = parallel_for(tasks, threads, body, interrupt);
    for (const auto& count : runs) {
        result.missed += count == 0;
        result.repeated += std::max(0, count - 1);
    }
    for (const auto& flag : used) result.threads += flag;
    result.shared = shared;
    result.outside = outside;
    return result;
}

}  // namespace fastconv
