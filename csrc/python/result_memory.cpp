#include "python/result_memory.hpp"

#include <pybind11/gil_safe_call_once.h>
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
// PyDataMem_SetHandler and PyDataMem_GetHandler in PyArray_API.
constexpr int kSetHandler = 304, kGetHandler = 305;
constexpr char kCapsuleName[] = "mem_handler";

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

struct NumpyMemory {
    PyObject* (*set_handler)(PyObject*);
    PyObject* (*get_handler)();
};

const NumpyMemory& numpy_memory() {
    // A static's own lock would be held while Python code runs, which lets go of the GIL.
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<NumpyMemory> found;
    const auto find = [] {
        const py::capsule table =
            py::detail::import_numpy_core_submodule("multiarray").attr("_ARRAY_API");
        void** const api = table.get_pointer<void*>();
        return NumpyMemory{reinterpret_cast<PyObject* (*)(PyObject*)>(api[kSetHandler]),
                           reinterpret_cast<PyObject* (*)()>(api[kGetHandler])};
    };
    return found.call_once_and_store_result(find).get_stored();
}

// Whether new arrays have NumPy's own memory, and not that of a handler the program has chosen.
bool has_default_handler() {
    const auto current = py::reinterpret_steal<py::object>(numpy_memory().get_handler());
    if (!current) throw py::error_already_set();
    const void* held = PyCapsule_GetPointer(current.ptr(), kCapsuleName);
    if (!held) throw py::error_already_set();
    return std::strcmp(static_cast<const Handler*>(held)->name, "default_allocator") == 0;
}

// Arrays hold a reference to it; the process's last one outlives them all.
PyObject* handler_capsule() {
    static PyObject* const capsule = PyCapsule_New(&handler, kCapsuleName, nullptr);
    return capsule;
}

}  // namespace

LargeResults::LargeResults() : previous_(nullptr) {
    if (!has_default_handler()) return;
    PyObject* const capsule = handler_capsule();
    if (capsule) previous_ = numpy_memory().set_handler(capsule);
    if (!previous_) throw py::error_already_set();
}

LargeResults::~LargeResults() {
    if (!previous_) return;
    py::error_scope held;  // of an allocation that failed
    PyObject* const ours = numpy_memory().set_handler(previous_);
    if (!ours) PyErr_Clear();
    Py_XDECREF(ours);
    Py_DECREF(previous_);
}

}  // namespace fastconv
