#include "worker.hpp"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastconv {

void Worker::sleep() {
    for (;;) {
        const EventCount::Ticket ticket = woken_.ticket();
        if (state_.load() == kAwake) break;
        woken_.wait(ticket);
    }
    unsteer();
}

bool Worker::wake(int busy, int busy_too, std::atomic<int>& sleepers) {
    int asleep = kAsleep;
    if (state_.load() != kAsleep || !state_.compare_exchange_strong(asleep, kWaking)) return false;
    sleepers.fetch_sub(1);
    steer(busy, busy_too);
    state_.store(kAwake);
    woken_.advance();
    woken_.wake(1);
    return true;
}

#if defined(__linux__)

int current_processor() {
    return sched_getcpu();
}

void Worker::begin() {
    id_ = int(syscall(SYS_gettid));
}

// Linux likes to wake a thread on the processor of the one that wakes it, in a virtual machine even
// where another one is idle (measured; it seems to take that one for preempted by the host). The
// worker then waits there for the caller's time slice to end, or takes the caller's time.
void Worker::steer(int busy, int busy_too) {
    if (sched_getaffinity(id_, sizeof affinity_, &affinity_) != 0) return;
    cpu_set_t others = affinity_;
    if (busy >= 0) CPU_CLR(busy, &others);
    if (busy_too >= 0) CPU_CLR(busy_too, &others);
    if (CPU_COUNT(&others) == 0 || CPU_EQUAL(&others, &affinity_)) return;
    steered_ = sched_setaffinity(id_, sizeof others, &others) == 0;
}

void Worker::unsteer() {
    if (steered_) sched_setaffinity(0, sizeof affinity_, &affinity_);
    steered_ = false;
}

#else

int current_processor() {
    return -1;
}

void Worker::begin() {}
void Worker::steer(int, int) {}
void Worker::unsteer() {}

#endif

}  // namespace fastconv
