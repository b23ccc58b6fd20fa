// The module `_jax_ffi`: what XLA calls, on its own threads, without Python and without the GIL.
#define PY_SSIZE_T_CLEAN
#include "xla/ffi/api/ffi.h"

#include <Python.h>

#include <cstdint>

#include "python/plain_calls.hpp"

namespace ffi = xla::ffi;

namespace {

const fastconv::PlainCalls* calls = nullptr;

ffi::Error convolve(ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> result,
                    ffi::Span<const std::int64_t> numbers) {
    if (std::int64_t(numbers.size()) != calls->numbers) {
        return ffi::Error::InvalidArgument("fastconv: not a call of this version");
    }
    const auto array = [](ffi::AnyBuffer& buffer) {
        return fastconv::PlainArray{buffer.untyped_data(), std::int64_t(buffer.size_bytes())};
    };
    switch (calls->run(numbers.begin(), {array(a), array(b), array(*result)})) {
        case fastconv::PlainStatus::kOk:
            return ffi::Error::Success();
        case fastconv::PlainStatus::kNoMemory:
            return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                              "fastconv: not enough memory for the convolution's scratch");
        case fastconv::PlainStatus::kDoesNotFit:
            break;
    }
    return ffi::Error::InvalidArgument("fastconv: the arrays are not those of the call");
}

// What XLA's own part of a call costs: see benchmarks/adapters/jax.py.
ffi::Error nothing(ffi::AnyBuffer, ffi::AnyBuffer, ffi::Result<ffi::AnyBuffer>,
                   ffi::Span<const std::int64_t>) {
    return ffi::Error::Success();
}

template <auto kFunction>
XLA_FFI_Error* handler(XLA_FFI_CallFrame* frame) {
    static auto* const bound = ffi::Ffi::Bind()
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()
                                   .Ret<ffi::AnyBuffer>()
                                   .Attr<ffi::Span<const std::int64_t>>("numbers")
                                   .To(kFunction)
                                   .release();
    return bound->Call(frame);
}

int add(PyObject* module, const char* name, XLA_FFI_Handler* function) {
    PyObject* capsule = PyCapsule_New(reinterpret_cast<void*>(function), nullptr, nullptr);
    const int status = PyModule_AddObjectRef(module, name, capsule);
    Py_XDECREF(capsule);
    return status;
}

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_jax_ffi",
                          "Targets of jax.ffi; use them through fastconv.interop.jax.",
                          -1,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__jax_ffi() {
    calls = static_cast<const fastconv::PlainCalls*>(PyCapsule_Import(fastconv::kPlainCalls, 0));
    if (!calls) return nullptr;
    if (calls->version != fastconv::kPlainVersion) {
        PyErr_SetString(PyExc_ImportError,
                        "_jax_ffi and _native are of different builds; reinstall fastconv");
        return nullptr;
    }
    PyObject* module = PyModule_Create(&definition);
    if (module &&
        (add(module, "convolve", handler<convolve>) || add(module, "nothing", handler<nothing>) ||
         PyModule_AddIntConstant(module, "XLA_FFI_API_MAJOR", XLA_FFI_API_MAJOR) ||
         PyModule_AddIntConstant(module, "XLA_FFI_API_MINOR", XLA_FFI_API_MINOR))) {
        Py_CLEAR(module);
    }
    return module;
}
