#include "result_memory.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace py = pybind11;

namespace fastconv {
namespace {

// NumPy's own declarations, of a stable interface (NumPy 1.22): pybind11 has none.
struct Allocator {
    void* context;
    void* (*malloc)(void*, std::size_t);
    void* (*calloc)(void*, std::size_t, std::size_t);
    void* (*realloc)(void*, void*, std::size_t);
    void (*free)(void*, void*, std::size_t);
};
struct Handler {
    char name[127];
    std::uint8_t version;
    Allocator allocator;
};
constexpr int kSetHandler = 304;  // PyDataMem_SetHandler in PyArray_API

// Blocks begin at huge pages, and data a cache line behind a block's size.
constexpr std::size_t kPage = std::size_t(2) << 20, kHead = 64;

struct alignas(kHead) Block {
    std::size_t data_bytes;
};

std::atomic<Block*> kept{nullptr};

void* data_of(Block* block) {
    return reinterpret_cast<char*>(block) + kHead;
}

Block* block_of(void* data) {
    return reinterpret_cast<Block*>(static_cast<char*>(data) - kHead);
}

void* allocate(void*, std::size_t bytes) {
    if (Block* block = kept.exchange(nullptr)) {
        // not much more than is needed: the rest would be held for nothing
        if (block->data_bytes >= bytes && block->data_bytes / 2 <= bytes) return data_of(block);
        std::free(block);
    }
    if (bytes > SIZE_MAX / 2) return nullptr;
    const std::size_t whole = (bytes + kHead + kPage - 1) / kPage * kPage;
    void* memory = std::aligned_alloc(kPage, whole);
    if (!memory) return nullptr;
#if defined(MADV_HUGEPAGE)
    madvise(memory, whole, MADV_HUGEPAGE);
#endif
    Block* block = static_cast<Block*>(memory);
    block->data_bytes = whole - kHead;
    return data_of(block);
}

void release(void*, void* data, std::size_t) {
    if (!data) return;
    Block* block = block_of(data);
    if (block->data_bytes <= kLargestKept) block = kept.exchange(block);
    std::free(block);
}

void* allocate_zeros(void* context, std::size_t count, std::size_t size) {
    if (size && count > SIZE_MAX / size) return nullptr;
    void* data = allocate(context, count * size);
    if (data) std::memset(data, 0, count * size);
    return data;
}

void* reallocate(void* context, void* data, std::size_t bytes) {
    void* moved = allocate(context, bytes);
    if (moved && data) {
        std::memcpy(moved, data, std::min(bytes, block_of(data)->data_bytes));
        release(context, data, 0);
    }
    return moved;
}

Handler handler = {
    "fastconv: large results", 1, {nullptr, allocate, allocate_zeros, reallocate, release}};

using SetHandler = PyObject* (*)(PyObject*);

SetHandler set_handler() {
    static const SetHandler function = [] {
        const py::capsule table =
            py::detail::import_numpy_core_submodule("multiarray").attr("_ARRAY_API");
        void** const api = table.get_pointer<void*>();
        return reinterpret_cast<SetHandler>(api[kSetHandler]);
    }();
    return function;
}

// Arrays hold a reference to it; the process's last one outlives them all.
PyObject* handler_capsule() {
    static PyObject* const capsule = PyCapsule_New(&handler, "mem_handler", nullptr);
    return capsule;
}

}  // namespace

LargeResults::LargeResults() : previous_(nullptr) {
    PyObject* const capsule = handler_capsule();
    if (!capsule || !(previous_ = set_handler()(capsule))) throw py::error_already_set();
}

LargeResults::~LargeResults() {
    py::error_scope held;  // of an allocation that failed
    PyObject* const ours = set_handler()(previous_);
    if (!ours) PyErr_Clear();
    Py_XDECREF(ours);
    Py_DECREF(previous_);
}

}  // namespace fastconv
