// How one thread of the pool sleeps and is woken, and on which processor it wakes.
#pragma once

#include <atomic>

#include "event_count.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

namespace fastconv {

// The processor the calling thread is on, or -1 if the system does not say.
int current_processor();

class alignas(64) Worker {
  public:
    // The worker itself, once, before it sleeps.
    void begin();

    // The worker itself: sleeps until somebody wakes it, unless `changed` says that there is
    // something to do. `sleepers` counts the workers that wake() would find.
    template <class Condition>
    void sleep_unless(const Condition& changed, std::atomic<int>& sleepers) {
        state_.store(kAsleep);
        sleepers.fetch_add(1);
        int asleep = kAsleep;
        if (changed() && state_.compare_exchange_strong(asleep, kAwake)) {
            sleepers.fetch_sub(1);
            return;
        }
        sleep();
    }

    // Any other thread: false if it was not asleep. It wakes on neither of these processors, where
    // it may: a thread that computes there would have to be interrupted or waited for.
    bool wake(int busy, int busy_too, std::atomic<int>& sleepers);

  private:
    enum State { kAwake, kAsleep, kWaking };

    void sleep();
    void steer(int busy, int busy_too);
    void unsteer();

    std::atomic<int> state_{kAwake};
    EventCount woken_;
#if defined(__linux__)
    int id_ = 0;
    bool steered_ = false;
    cpu_set_t affinity_;  // before it was steered
#endif
};

}  // namespace fastconv
