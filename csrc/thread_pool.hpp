// The process's worker threads and the jobs they help with; parallel_for is the way to use it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>

#include "event_count.hpp"
#include "parallel.hpp"
#include "worker.hpp"

namespace fastconv {

// One job. The slot belongs to the pool and outlives every job, so that a thread that comes late
// finds it closed, whatever has become of the caller. One word holds all that decides who may do
// what, so that no thread ever acts on a mixture of two jobs.
class alignas(128) JobSlot {
  public:
    // The caller: opens the slot for `threads - 1` workers, draws tasks until none is left, waits.
    void open(Index tasks, int threads, const TaskBody& body);
    void stop();
    void await_workers(bool spin);
    void forget_workers();  // in a forked child: they are gone, and all tasks are to be done again

    // A worker: enters with a first task, or not at all; draws more; leaves.
    bool enter(Index& task, int& thread);
    void leave();

    // Both: the next task, or false.
    bool draw(Index& task);

    void run(Index task, int thread) const { (*body_)(task, thread); }
    int threads() const { return threads_.load(std::memory_order_relaxed); }
    int processor() const { return processor_.load(std::memory_order_relaxed); }  // the caller's
    int wanted() const;  // how many more workers would find a task and a thread number

  private:
    bool deserted() const;
    Index placed(Index drawn) const;

    // Tasks left (signed, so that drawing from nothing does no harm), thread numbers left, workers
    // inside: kTask, kNumber and kWorker are one of each.
    std::atomic<std::int64_t> state_{0};
    alignas(64) Index tasks_ = 0;
    const TaskBody* body_ = nullptr;
    std::atomic<int> threads_{0}, processor_{-1};
    EventCount left_;
};

class ThreadPool {
  public:
    static constexpr Index kMostTasks = Index(1) << 38;

    // The process's pool; a forked child gets a new one. Null if there is no memory for it. Never
    // deleted: its threads sleep in it when the process ends.
    static ThreadPool* current();

    // How many calls of parallel_for the calling thread is in; a worker is always in one.
    static int& depth();

    int most_threads() const { return most_threads_; }

    // Counts a calling thread as running; `leave` lets a worker have its processor.
    void enter() { running_.fetch_add(1); }
    void leave();

    // A slot with an open job, for a caller that has entered; null if all are in use.
    JobSlot* open(Index tasks, int threads, const TaskBody& body);
    void close(JobSlot& slot);    // no worker looks into it any more
    void release(JobSlot& slot);  // no worker is inside any more

    // Whether every running thread has a processor, so that waiting need not give one up.
    bool may_spin() const { return running_.load() <= processors_; }

  private:
    static constexpr int kSlots = 64;

    ThreadPool();
    void grow(int workers);
    void work(Worker& self);
    bool help();
    int room(const JobSlot& slot) const;
    void wake_for(const JobSlot& slot, int most);
    void wake(int most, int busy);
    std::uint64_t bit(const JobSlot& slot) const { return std::uint64_t(1) << (&slot - slots_); }

    const int processors_, most_threads_;
    JobSlot slots_[kSlots];
    alignas(64) std::atomic<std::uint64_t> taken_{0};  // slots that have an owner
    std::atomic<std::uint64_t> open_{0};               // slots that workers look into
    std::atomic<int> running_{0};                      // callers and workers that compute
    std::atomic<int> spinning_{0};                     // workers awake for the next job
    std::atomic<std::uint32_t> events_{0};             // counts what workers should look up for
    std::atomic<int> sleepers_{0};                     // workers asleep

    std::mutex growing_;
    std::unique_ptr<Worker[]> workers_;
    std::atomic<int> worker_count_{0};
    std::chrono::steady_clock::time_point retry_{};
};

}  // namespace fastconv
