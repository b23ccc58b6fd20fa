// An event count: sleep until something has happened since one last looked, without a lock.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if !defined(SYS_futex)
#include <condition_variable>
#include <mutex>
#endif

namespace fastconv {

// Waiter: take a ticket, look whether there is something to do, and if not wait(ticket).
// Notifier: make something to do, advance(), wake().
class EventCount {
  public:
    using Ticket = std::uint32_t;

    Ticket ticket() const { return count_.load(); }

    void advance() { count_.fetch_add(1); }

    // Sleeps unless there was an advance() since the ticket was taken; may return early.
    void wait(Ticket ticket) {
        sleepers_.fetch_add(1);
        sleep(ticket);
        sleepers_.fetch_sub(1);
    }

    // Wakes at most this many sleepers; costs a system call only if there are any.
    void wake(int most) {
        if (most > 0 && sleepers_.load() > 0) wake_sleepers(most);
    }

  private:
#if defined(SYS_futex)
    static_assert(sizeof(std::atomic<Ticket>) == sizeof(Ticket), "the kernel reads count_");

    void sleep(Ticket ticket) {
        syscall(SYS_futex, &count_, FUTEX_WAIT_PRIVATE, ticket, nullptr, nullptr, 0);
    }
    void wake_sleepers(int most) {
        syscall(SYS_futex, &count_, FUTEX_WAKE_PRIVATE, most, nullptr, nullptr, 0);
    }
#else
    void sleep(Ticket ticket) {
        std::unique_lock<std::mutex> lock(mutex_);
        if (count_.load() == ticket) changed_.wait(lock);
    }
    void wake_sleepers(int most) {
        // nobody may be between the look at count_ and the wait
        std::lock_guard<std::mutex> lock(mutex_);
        for (; most > 0; --most) changed_.notify_one();
    }

    std::mutex mutex_;
    std::condition_variable changed_;
#endif
    std::atomic<Ticket> count_{0};
    std::atomic<int> sleepers_{0};
};

}  // namespace fastconv
