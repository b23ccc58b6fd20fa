// A machine that runs CUDA kernels on one CPU core, as a fiber per CUDA thread, to find mistakes.
//
// Blocks run one after another, in any order. Within a block a thread runs until it reaches a
// barrier (or, in the preemptive schedule, any access to shared memory), then another one is
// chosen: the order of the threads is as unfavourable as CUDA permits. Reported as faults, with
// the offending thread:
//   - shared memory: out of bounds, misaligned vectors, read before it was written, two threads on
//     one item without a barrier between them (whatever the order they happened to run in);
//   - global memory: outside the arrays, misaligned, an item of the result stored twice;
//   - barriers that not all threads of a block reach, or reach at different places.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace host {

enum Schedule { ASCENDING, DESCENDING, SHUFFLED, PREEMPTIVE };

// Mirrors the ctypes structure Region of host_model.py: bytes [begin, end).
struct Region {
    std::uint64_t begin, end;
    std::int64_t writable;
};

class Machine {
  public:
    Machine(int threads, int schedule, unsigned seed, bool races, std::vector<Region> regions)
        : races(races), schedule_(schedule), random_(seed), regions_(std::move(regions)) {
        fibers_.resize(threads);
        for (Fiber& fiber : fibers_) {
            fiber.stack = std::make_unique<char[]>(STACK_BYTES);
        }
        for (const Region& region : regions_) {
            stored_.emplace_back(region.writable ? region.end - region.begin : 0, false);
        }
    }

    // Run `kernel` for every thread of every block; the message of the first fault, or "".
    std::string run(std::int64_t blocks, std::function<void()> kernel) {
        kernel_ = std::move(kernel);
        grid_blocks = static_cast<unsigned>(blocks);
        std::vector<unsigned> order(blocks);
        std::iota(order.begin(), order.end(), 0u);
        arrange(order);
        for (unsigned block : order) {
            block_index = block;
            run_block();
            if (!fault_.empty()) {
                break;
            }
        }
        return fault_;
    }

    // -- what kernels see, through host_primitives.hpp --------------------------------------------

    unsigned thread_index = 0, block_index = 0, grid_blocks = 0;
    unsigned block_threads() const { return static_cast<unsigned>(fibers_.size()); }

    // Barriers passed by the block so far: accesses in one epoch are not ordered among threads.
    int epoch = 0;
    const bool races;

    void barrier(int line) {
        fibers_[thread_index].state = WAITING;
        fibers_[thread_index].line = line;
        leave();
    }

    // Any moment at which another thread may overtake this one.
    void maybe_preempt() {
        if (schedule_ == PREEMPTIVE && random_() % 64 == 0) {
            leave();
        }
    }

    // The block's copy of a shared array, told apart by its place in the source.
    template <typename Array>
    Array& shared(int line) {
        std::shared_ptr<void>& slot = shared_[line];
        if (!slot) {
            slot = std::make_shared<Array>();
            shared_bytes_ += Array::BYTES;
            if (shared_bytes_ > 48 * 1024) {
                fail("%ld bytes of shared memory, more than 48 KiB", shared_bytes_);
            }
        }
        return *static_cast<Array*>(slot.get());
    }

    void check_load(const void* address, std::size_t size) {
        if (find(address, size, false) == NOWHERE) {
            fail("load of %zu bytes at %p, outside of every operand", size, address);
        }
    }

    void check_store(const void* address, std::size_t size) {
        const std::size_t region = find(address, size, true);
        if (region == NOWHERE) {
            fail("store of %zu bytes at %p, outside of the result", size, address);
        }
        const std::size_t offset =
            reinterpret_cast<std::uint64_t>(address) - regions_[region].begin;
        if (stored_[region][offset]) {
            fail("second store to the item at byte %zu of the result", offset);
        }
        stored_[region][offset] = true;
    }

    [[noreturn]] void fail(const char* format, ...) {
        char text[256];
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        fault_ = "block " + std::to_string(block_index) + ", thread " +
                 std::to_string(thread_index) + ": " + text;
        leave();
        std::abort();  // a thread that failed is never resumed
    }

  private:
    enum State { READY, WAITING, DONE };
    static constexpr std::size_t STACK_BYTES = 64 * 1024;

    struct Fiber {
        ucontext_t context;
        std::unique_ptr<char[]> stack;
        State state;
        int line;
    };

    static Machine* running_;

    static void enter() {
        running_->kernel_();
        running_->fibers_[running_->thread_index].state = DONE;
        running_->leave();
    }

    void leave() { swapcontext(&fibers_[thread_index].context, &scheduler_); }

    void run_block() {
        running_ = this;
        epoch = 0;
        shared_.clear();
        shared_bytes_ = 0;
        for (Fiber& fiber : fibers_) {
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = STACK_BYTES;
            fiber.context.uc_link = nullptr;
            fiber.state = READY;
            makecontext(&fiber.context, &Machine::enter, 0);
        }
        std::vector<unsigned> order(fibers_.size());
        std::iota(order.begin(), order.end(), 0u);
        while (fault_.empty() && count(DONE) < fibers_.size()) {
            arrange(order);
            for (unsigned thread : order) {
                if (fibers_[thread].state == READY) {
                    thread_index = thread;
                    swapcontext(&scheduler_, &fibers_[thread].context);
                    if (!fault_.empty()) {
                        return;
                    }
                }
            }
            if (count(READY) == 0 && count(WAITING) > 0) {
                release_barrier();
            }
        }
    }

    void release_barrier() {
        if (count(WAITING) < fibers_.size()) {
            fault_ = "block " + std::to_string(block_index) + ": " + std::to_string(count(DONE)) +
                     " threads ended while " + std::to_string(count(WAITING)) +
                     " wait at a barrier";
            return;
        }
        for (Fiber& fiber : fibers_) {
            if (fiber.line != fibers_[0].line) {
                fault_ = "block " + std::to_string(block_index) +
                         ": threads wait at different barriers, lines " +
                         std::to_string(fibers_[0].line) + " and " + std::to_string(fiber.line);
                return;
            }
            fiber.state = READY;
        }
        ++epoch;
    }

    std::size_t count(State state) const {
        return std::count_if(fibers_.begin(), fibers_.end(),
                             [state](const Fiber& fiber) { return fiber.state == state; });
    }

    void arrange(std::vector<unsigned>& order) {
        std::sort(order.begin(), order.end());
        if (schedule_ == DESCENDING) {
            std::reverse(order.begin(), order.end());
        } else if (schedule_ != ASCENDING) {
            std::shuffle(order.begin(), order.end(), random_);
        }
    }

    static constexpr std::size_t NOWHERE = ~std::size_t(0);

    std::size_t find(const void* address, std::size_t size, bool writable) {
        const std::uint64_t first = reinterpret_cast<std::uint64_t>(address);
        if (first % size != 0) {
            fail("misaligned access to %zu bytes at %p", size, address);
        }
        for (std::size_t i = 0; i < regions_.size(); ++i) {
            if ((regions_[i].writable != 0) == writable && regions_[i].begin <= first &&
                first + size <= regions_[i].end) {
                return i;
            }
        }
        return NOWHERE;
    }

    int schedule_;
    std::mt19937 random_;
    std::vector<Region> regions_;
    std::vector<std::vector<bool>> stored_;
    std::vector<Fiber> fibers_;
    std::function<void()> kernel_;
    ucontext_t scheduler_;
    std::map<int, std::shared_ptr<void>> shared_;
    long shared_bytes_ = 0;
    std::string fault_;
};

inline Machine* Machine::running_ = nullptr;
inline Machine* machine = nullptr;

}  // namespace host
