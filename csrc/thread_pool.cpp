#include "thread_pool.hpp"

#include <algorithm>
#include <cfenv>
#include <exception>
#include <new>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#define FASTCONV_POSIX 1
#endif

namespace fastconv {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than a Python program takes from one call to the next, short enough that an idle process
// is quiet at once.
constexpr auto kSpin = std::chrono::microseconds(100);
// A worker that finds nothing more to do in a job spins to its end and then for kSpin, to be there
// for the next one; but not for long, the last task may be a large one.
constexpr auto kSpinBesideJob = std::chrono::microseconds(500);
// Threads beyond a few per processor only wait for each other, and creating them can fail.
constexpr int kThreadsPerProcessor = 4;
// Creating threads that the system refused is tried again after so long.
constexpr auto kRetry = std::chrono::seconds(1);
// A thread that wakes others wakes so many, and they the next: nobody pays for all.
constexpr int kWakes = 2;

constexpr std::int64_t kWorker = 1, kNumber = kWorker << 12, kTask = kNumber << 12;
constexpr int kMostThreads = int(kTask / kNumber) - 1;

Index tasks_in(std::int64_t state) {
    return state >> 24;
}
int numbers_in(std::int64_t state) {
    return int((state & (kTask - 1)) / kNumber);
}
int workers_in(std::int64_t state) {
    return int(state & (kNumber - 1));
}

void pause_processor() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// False if it takes longer than kSpin without `patience`, or kSpinBesideJob with it.
template <class Condition, class Patience>
bool spin_until(const Condition& condition, const Patience& patience) {
    const auto start = Clock::now();
    auto now = start, calm = start;
    do {
        for (int turn = 0; turn < 16; ++turn) {
            if (condition()) return true;
            pause_processor();
        }
        now = Clock::now();
        if (patience()) calm = now;
    } while (now < calm + kSpin && now < start + kSpinBesideJob);
    return false;
}

// Threads inherit the mask: signals are for the threads of the program, whose handlers may need
// them, not for workers.
class SignalsBlocked {
#if defined(FASTCONV_POSIX)
  public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  private:
    sigset_t before_;
#endif
};

std::atomic<ThreadPool*> current_pool{nullptr};

// The child has none of the threads, and whatever locks they held stay locked: it leaves the
// parent's pool as it is.
void after_fork_in_child() {
    current_pool.store(nullptr);
}

}  // namespace

void JobSlot::open(Index tasks, int threads, const TaskBody& body) {
    tasks_ = tasks;
    body_ = &body;
    threads_.store(threads, std::memory_order_relaxed);
    processor_.store(current_processor(), std::memory_order_relaxed);
    state_.store(tasks * kTask + (threads - 1) * kNumber, std::memory_order_release);
}

void JobSlot::stop() {
    std::int64_t state = state_.load(std::memory_order_relaxed);
    while (tasks_in(state) > 0 &&
           !state_.compare_exchange_weak(state, state - tasks_in(state) * kTask)) {
    }
}

void JobSlot::await_workers(bool spin) {
    const auto condition = [this] { return deserted(); };
    const auto impatience = [] { return false; };
    if (deserted() || (spin && spin_until(condition, impatience))) return;
    for (;;) {
        const EventCount::Ticket ticket = left_.ticket();
        if (deserted()) return;
        left_.wait(ticket);
    }
}

void JobSlot::forget_workers() {
    if (!deserted()) state_.store(tasks_ * kTask);
}

// Tasks that are drawn at the same time lie far apart: neighbours write to neighbouring memory, and
// two cores that do so take cache lines from each other. With t threads every t-th draw continues
// in the same of t stretches of tasks.
Index JobSlot::placed(Index drawn) const {
    const Index threads = threads_.load(std::memory_order_relaxed);
    const Index stretch = drawn % threads, length = tasks_ / threads, longer = tasks_ % threads;
    return stretch * length + std::min(stretch, longer) + drawn / threads;
}

bool JobSlot::enter(Index& task, int& thread) {
    std::int64_t state = state_.load(std::memory_order_relaxed);
    while (tasks_in(state) > 0 && numbers_in(state) > 0) {
        const std::int64_t next = state - kTask - kNumber + kWorker;
        if (state_.compare_exchange_weak(state, next, std::memory_order_acq_rel,
                                         std::memory_order_relaxed)) {
            task = placed(tasks_ - tasks_in(state));
            thread = numbers_in(state);
            return true;
        }
    }
    return false;
}

void JobSlot::leave() {
    // the job may be gone from here on, the slot is not; a new owner is only woken for nothing
    if (workers_in(state_.fetch_sub(kWorker, std::memory_order_acq_rel)) > 1) return;
    left_.advance();
    left_.wake(1);
}

bool JobSlot::draw(Index& task) {
    const Index left = tasks_in(state_.fetch_sub(kTask, std::memory_order_relaxed));
    task = placed(tasks_ - left);
    return left > 0;
}

int JobSlot::wanted() const {
    const std::int64_t state = state_.load(std::memory_order_relaxed);
    return int(std::clamp<Index>(tasks_in(state), 0, numbers_in(state)));
}

bool JobSlot::deserted() const {
    return workers_in(state_.load(std::memory_order_acquire)) == 0;
}

ThreadPool* ThreadPool::current() {
    if (ThreadPool* pool = current_pool.load()) return pool;
#if defined(FASTCONV_POSIX)
    static const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);
    (void)registered;
#endif
    ThreadPool* pool = nullptr;
    ThreadPool* other = nullptr;
    try {
        pool = new ThreadPool;
    } catch (const std::bad_alloc&) {
        return nullptr;  // the caller works alone
    }
    if (current_pool.compare_exchange_strong(other, pool)) return pool;
    delete pool;
    return other;
}

int& ThreadPool::depth() {
    thread_local int depth = 0;
    return depth;
}

ThreadPool::ThreadPool()
    : processors_(std::max(1, int(std::thread::hardware_concurrency()))),
      most_threads_(std::min(kThreadsPerProcessor * std::max(2, processors_), kMostThreads)),
      workers_(new Worker[std::size_t(most_threads_)]) {}

JobSlot* ThreadPool::open(Index tasks, int threads, const TaskBody& body) {
    std::uint64_t taken = taken_.load(), lowest;
    do {
        lowest = ~taken & (taken + 1);  // the lowest bit that is not set
        if (!lowest) return nullptr;
    } while (!taken_.compare_exchange_weak(taken, taken | lowest));
    JobSlot& slot = slots_[__builtin_ctzll(lowest)];
    grow(threads - 1);
    slot.open(tasks, threads, body);
    open_.fetch_or(lowest);
    events_.fetch_add(1);
    wake_for(slot, threads - 1);
    return &slot;
}

void ThreadPool::close(JobSlot& slot) {
    open_.fetch_and(~bit(slot));
}

void ThreadPool::release(JobSlot& slot) {
    taken_.fetch_and(~bit(slot));
}

void ThreadPool::leave() {
    running_.fetch_sub(1);
    if (open_.load() == 0) return;
    events_.fetch_add(1);
    wake(1 - spinning_.load(), -1);
}

int ThreadPool::room(const JobSlot& slot) const {
    // a caller that asks for more threads than there are processors gets them, if it is alone
    return std::max(processors_, slot.threads()) - running_.load();
}

void ThreadPool::wake_for(const JobSlot& slot, int most) {
    wake(std::min({most, room(slot), kWakes}) - spinning_.load(), slot.processor());
}

// The first that sleep: always the same ones, as long as they suffice.
void ThreadPool::wake(int most, int busy) {
    if (most <= 0 || sleepers_.load() == 0) return;
    const int workers = worker_count_.load(), here = current_processor();
    for (int worker = 0; worker < workers && most > 0; ++worker) {
        if (workers_[worker].wake(here, busy, sleepers_)) --most;
    }
}

void ThreadPool::grow(int workers) {
    if (worker_count_.load(std::memory_order_relaxed) >= workers) return;
    const std::unique_lock<std::mutex> lock(growing_, std::try_to_lock);
    if (!lock || Clock::now() < retry_) return;
    const SignalsBlocked blocked;
    while (worker_count_.load() < workers) {
        try {
            Worker& worker = workers_[worker_count_.load()];
            std::thread([this, &worker] { work(worker); }).detach();
            worker_count_.fetch_add(1);
        } catch (const std::exception&) {  // those we have do the work
            retry_ = Clock::now() + kRetry;
            return;
        }
    }
}

void ThreadPool::work(Worker& self) {
    self.begin();
    depth() = 1;
    // not that of the thread which happened to make this one: XLA's flush subnormals
    std::fesetenv(FE_DFL_ENV);
    for (;;) {
        const std::uint32_t seen = events_.load();
        const auto changed = [&] { return events_.load() != seen; };
        const auto beside_job = [&] { return open_.load(std::memory_order_relaxed) != 0; };
        if (help()) continue;
        // one processor is the program's, whether it computes here or not
        if (std::max(1, running_.load()) + spinning_.load() < processors_) {
            spinning_.fetch_add(1);
            const bool spun = spin_until(changed, beside_job);
            spinning_.fetch_sub(1);
            if (spun) continue;
        }
        self.sleep_unless(changed, sleepers_);
    }
}

// Works in one job, if there is one that needs somebody.
bool ThreadPool::help() {
    for (std::uint64_t jobs = open_.load(); jobs; jobs &= jobs - 1) {
        JobSlot& slot = slots_[__builtin_ctzll(jobs)];
        Index task;
        int thread;
        if (room(slot) <= 0 || !slot.enter(task, thread)) continue;
        running_.fetch_add(1);
        wake_for(slot, slot.wanted());
        do {
            slot.run(task, thread);
        } while (slot.draw(task));
        running_.fetch_sub(1);
        slot.leave();
        return true;
    }
    return false;
}

}  // namespace fastconv
