#include "parallel.hpp"

#include <atomic>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace fastconv {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPollInterval = std::chrono::milliseconds(50);

std::atomic<bool> pool_used{false};
std::atomic<bool> pool_lost{false};

void after_fork_in_child() {
    if (pool_used.load()) pool_lost.store(true);
}

void watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
    static const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);
    (void)registered;
#endif
}

// Hands out tasks one at a time: the machine may slow one core down at any moment.
class Queue {
  public:
    Queue(Index tasks, const std::function<void(Index, int)>& body, const Interrupt& interrupt)
        : tasks_(tasks), body_(body), interrupt_(interrupt), next_poll_(Clock::now()) {
        next_poll_ += kPollInterval;
    }

    // `polls` is true on the calling thread alone.
    void work(int thread, bool polls) {
        for (;;) {
            if (stopped_.load(std::memory_order_relaxed)) return;
            const Index task = next_.fetch_add(1, std::memory_order_relaxed);
            if (task >= tasks_) return;
            body_(task, thread);
            if (polls) poll();
        }
    }

    bool completed() const { return !stopped_.load(); }

  private:
    void poll() {
        if (!interrupt_ || Clock::now() < next_poll_) return;
        next_poll_ = Clock::now() + kPollInterval;
        if (interrupt_()) stopped_.store(true);
    }

    const Index tasks_;
    const std::function<void(Index, int)>& body_;
    const Interrupt& interrupt_;
    Clock::time_point next_poll_;
    std::atomic<Index> next_{0};
    std::atomic<bool> stopped_{false};
};

void run_on_new_threads(Queue& queue, int threads) {
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) {
        try {
            others.emplace_back([&queue, thread] { queue.work(thread, false); });
        } catch (const std::system_error&) {
            break;  // the system has no more threads; those we have do the work
        }
    }
    queue.work(0, true);
    for (std::thread& other : others) other.join();
}

}  // namespace

bool parallel_for(Index tasks, int threads, const std::function<void(Index, int)>& body,
                  const Interrupt& interrupt) {
    if (threads > tasks) threads = int(tasks);
    Queue queue(tasks, body, interrupt);
#if defined(_OPENMP)
    if (threads <= 1 || omp_in_parallel()) {
        queue.work(0, true);
    } else if (pool_lost.load()) {
        run_on_new_threads(queue, threads);
    } else {
        watch_forks();
        pool_used.store(true);
#pragma omp parallel num_threads(threads)
        queue.work(omp_get_thread_num(), omp_get_thread_num() == 0);
    }
#else
    if (threads <= 1) {
        queue.work(0, true);
    } else {
        run_on_new_threads(queue, threads);
    }
#endif
    return queue.completed();
}

const char* threading_layer() {
#if defined(_OPENMP)
    return "OpenMP";
#else
    return "std::thread";
#endif
}

}  // namespace fastconv
