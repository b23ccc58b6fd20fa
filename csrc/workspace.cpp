#include "workspace.hpp"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>

#include "parallel.hpp"

namespace fastconv {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kKeep = std::size_t(4) << 20;  // blocks up to this size are kept as they are

std::atomic<int> failures{0};

struct Block {
    void* data = nullptr;
    std::size_t size = 0;
    std::unique_ptr<Block> inner;  // of calls from inside parallel_for

    ~Block() { std::free(data); }

    void* resize(std::size_t bytes) {
        std::free(data);
        size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
        data = std::aligned_alloc(kAlignment, size);
        if (!data) size = 0;
        return data;
    }
};

thread_local Block outer;

bool fails_on_request() {
    int left = failures.load();
    while (left > 0 && !failures.compare_exchange_weak(left, left - 1)) {
    }
    return left > 0;
}

}  // namespace

void* thread_workspace(std::size_t bytes) {
    if (fails_on_request()) return nullptr;
    Block* block = &outer;
    for (int depth = parallel_depth(); depth > 0; --depth) {
        if (!block->inner) block->inner.reset(new (std::nothrow) Block);
        if (!(block = block->inner.get())) return nullptr;
    }
    const bool fits = block->data && block->size >= bytes;
    const bool wasteful = block->size > kKeep && block->size / 4 > bytes;
    return fits && !wasteful ? block->data : block->resize(bytes ? bytes : kAlignment);
}

void fail_next_allocations(int count) {
    failures.store(count);
}

}  // namespace fastconv
