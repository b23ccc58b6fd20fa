#include "parallel.hpp"

#include <algorithm>
#include <chrono>

#include "thread_pool.hpp"

namespace fastconv {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPollInterval = std::chrono::milliseconds(50);

class Poll {
  public:
    explicit Poll(const Interrupt& interrupt) : interrupt_(interrupt) {
        if (interrupt_) next_ = Clock::now() + kPollInterval;
    }

    bool stops() {
        if (!interrupt_ || Clock::now() < next_) return false;
        next_ = Clock::now() + kPollInterval;
        return interrupt_();
    }

  private:
    const Interrupt& interrupt_;
    Clock::time_point next_{};
};

// A call of parallel_for. Ends it in the destructor: pthread_exit in `interrupt` (a daemon thread
// at the end of a Python process) must not take the stack away from workers.
class Call {
  public:
    Call() : outermost_(ThreadPool::depth()++ == 0), pool_(ThreadPool::current()) {
        if (outermost_ && pool_) pool_->enter();
    }

    ~Call() {
        if (slot_) slot_->stop();
        if (slot_) pool_->close(*slot_);
        const bool spin = slot_ && pool_->may_spin();
        if (outermost_ && pool_) pool_->leave();
        if (slot_) slot_->await_workers(spin);
        if (slot_) pool_->release(*slot_);
        --ThreadPool::depth();
    }

    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    // False if the tasks are to be done by the calling thread alone.
    bool share(Index tasks, int threads, const TaskBody& body) {
        if (!outermost_ || !pool_ || tasks > ThreadPool::kMostTasks) return false;
        threads = int(std::min<Index>(std::min(threads, pool_->most_threads()), tasks));
        if (threads > 1) slot_ = pool_->open(tasks, threads, body);
        return slot_;
    }

    bool work(const TaskBody& body, Poll& poll) {
        Index task;
        while (slot_->draw(task)) {
            body(task, 0);
            const bool stops = poll.stops();
            if (pool_ != ThreadPool::current()) slot_->forget_workers();  // this is a forked child
            if (stops) return false;
        }
        return true;
    }

  private:
    const bool outermost_;
    ThreadPool* const pool_;
    JobSlot* slot_ = nullptr;
};

}  // namespace

bool parallel_for(Index tasks, int threads, TaskBody body, const Interrupt& interrupt) {
    Poll poll(interrupt);
    Call call;
    if (call.share(tasks, threads, body)) return call.work(body, poll);
    for (Index task = 0; task < tasks; ++task) {
        body(task, 0);
        if (poll.stops()) return false;
    }
    return true;
}

int parallel_depth() {
    return ThreadPool::depth();
}

const char* threading_layer() {
    return "std::thread pool";
}

}  // namespace fastconv
