#include "machine.hpp"

#include <ucontext.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace host {

Block block;
bool detects_races;

namespace {

constexpr std::size_t STACK_BYTES = 64 * 1024;
constexpr std::size_t SHARED_BYTES = 48 * 1024;  // what every GPU grants without being asked
constexpr std::size_t NOWHERE = ~std::size_t(0);

// In the order of host_model.SCHEDULES.
enum Schedule { ASCENDING, DESCENDING, SHUFFLED, PREEMPTIVE };

enum State { READY, WAITING, DONE };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    State state;
    int line;  // of the barrier it waits at
};

// Mirrors host_model.Region: bytes [begin, end) of global memory.
struct Region {
    std::uint64_t begin, end;
    std::int64_t writable;
};

class Machine {
  public:
    Machine(const void* parameters, int threads, int schedule, unsigned seed,
            std::vector<Region> regions)
        : parameters_(parameters),
          schedule_(schedule),
          random_(seed),
          regions_(std::move(regions)),
          fibers_(threads) {
        for (const Region& region : regions_) {
            stored_.emplace_back(region.writable ? region.end - region.begin : 0, false);
        }
    }

    // Run every block of the grid; the first fault, or "".
    std::string run(unsigned blocks) {
        std::vector<unsigned> order(blocks);
        std::iota(order.begin(), order.end(), 0u);
        arrange(order);
        for (unsigned index : order) {
            block = {index, static_cast<unsigned>(fibers_.size()), blocks, 0, 0};
            run_block();
            if (!fault_.empty()) {
                break;
            }
        }
        return fault_;
    }

    void wait(int line) {
        fibers_[block.thread].state = WAITING;
        fibers_[block.thread].line = line;
        leave();
    }

    void preempt() {
        if (schedule_ == PREEMPTIVE && random_() % 64 == 0) {
            leave();
        }
    }

    void* shared(int line, std::size_t model_bytes, std::size_t device_bytes,
                 void (*construct)(void*)) {
        std::unique_ptr<std::max_align_t[]>& slot = shared_[line];
        if (!slot) {
            slot.reset(new std::max_align_t[model_bytes / sizeof(std::max_align_t) + 1]);
            construct(slot.get());
            shared_bytes_ += device_bytes;
            if (shared_bytes_ > SHARED_BYTES) {
                fail("%zu bytes of shared memory, %zu are there", shared_bytes_, SHARED_BYTES);
            }
        }
        return slot.get();
    }

    void store(const void* address, std::size_t size) {
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

    std::size_t find(const void* address, std::size_t size, bool writable) const {
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

    [[noreturn]] void stop(const std::string& what) {
        fault_ = "block " + std::to_string(block.index) + ", thread " +
                 std::to_string(block.thread) + ": " + what;
        leave();
        std::abort();
    }

    void run_fiber() {
        run_thread(parameters_);
        fibers_[block.thread].state = DONE;
        leave();
    }

  private:
    void leave() { swapcontext(&fibers_[block.thread].context, &scheduler_); }

    void start_fibers();

    void run_block() {
        start_fibers();
        std::vector<unsigned> order(fibers_.size());
        std::iota(order.begin(), order.end(), 0u);
        while (fault_.empty() && count(DONE) < fibers_.size()) {
            arrange(order);
            for (unsigned thread : order) {
                if (fibers_[thread].state == READY) {
                    block.thread = thread;
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
        const std::string where = "block " + std::to_string(block.index) + ": ";
        if (count(WAITING) < fibers_.size()) {
            fault_ = where + std::to_string(count(DONE)) + " threads ended while " +
                     std::to_string(count(WAITING)) + " wait at a barrier";
            return;
        }
        for (Fiber& fiber : fibers_) {
            if (fiber.line != fibers_[0].line) {
                fault_ = where + "threads wait at different barriers, lines " +
                         std::to_string(fibers_[0].line) + " and " + std::to_string(fiber.line);
                return;
            }
            fiber.state = READY;
        }
        ++block.epoch;
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

    const void* parameters_;
    int schedule_;
    std::mt19937 random_;
    std::vector<Region> regions_;
    std::vector<std::vector<bool>> stored_;  // by byte of each writable region
    std::vector<Fiber> fibers_;
    ucontext_t scheduler_;
    std::map<int, std::unique_ptr<std::max_align_t[]>> shared_;
    std::size_t shared_bytes_ = 0;
    std::string fault_;
};

Machine* machine = nullptr;

void enter() {
    machine->run_fiber();
}

void Machine::start_fibers() {
    shared_.clear();
    shared_bytes_ = 0;
    for (Fiber& fiber : fibers_) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK_BYTES;
        fiber.context.uc_link = nullptr;
        fiber.state = READY;
        makecontext(&fiber.context, enter, 0);
    }
}

}  // namespace

void barrier(int line) {
    machine->wait(line);
}

void maybe_preempt() {
    machine->preempt();
}

void* shared_memory(int line, std::size_t model_bytes, std::size_t device_bytes,
                    void (*construct)(void*)) {
    return machine->shared(line, model_bytes, device_bytes, construct);
}

void check_load(const void* address, std::size_t size) {
    if (machine->find(address, size, false) == NOWHERE) {
        fail("load of %zu bytes at %p, outside of every operand", size, address);
    }
}

void check_store(const void* address, std::size_t size) {
    machine->store(address, size);
}

void fail(const char* format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    machine->stop(text);
}

}  // namespace host

// Returns 0, or 1 and the fault in `message`.
extern "C" int run_kernel(const void* parameters, std::int64_t blocks, int threads,
                          const host::Region* regions, int region_count, int schedule,
                          unsigned seed, int races, char* message, int message_bytes) {
    host::Machine machine(parameters, threads, schedule, seed, {regions, regions + region_count});
    host::machine = &machine;
    host::detects_races = races != 0;
    const std::string fault = machine.run(static_cast<unsigned>(blocks));
    host::machine = nullptr;
    std::snprintf(message, message_bytes, "%s", fault.c_str());
    return fault.empty() ? 0 : 1;
}
