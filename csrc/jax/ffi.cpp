// The module `_jax_ffi`: what XLA calls, on its own threads, without Python and without the GIL. It
// links with nothing, and computes by the functions of fastconv_capsule.h.
#define PY_SSIZE_T_CLEAN
#include "xla/ffi/api/ffi.h"

#include <Python.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "capi/fastconv_capsule.h"

namespace ffi = xla::ffi;

namespace {

using Index = std::int64_t;
using Numbers = ffi::Span<const Index>;

const fastconv_api* fastconv = nullptr;

// A call as interop/jax/ways.py writes it into the compiled program: the fields of a problem, then
// those of options, in their order and without sizes of structs; then where in the buffers of a, b
// and out their elements with index 0 everywhere are.
constexpr std::size_t kNumbers = 10 + 6 * FASTCONV_MAX_SPATIAL + 3 * FASTCONV_MAX_RANK + 3 + 3;

struct Call {
    fastconv_problem problem{};
    fastconv_options options{};
    Index place[3];

    explicit Call(Numbers numbers) : next_(numbers.begin()) {
        fastconv_problem& p = problem;
        p.struct_size = sizeof p;
        read(p.result, p.spatial, p.dtype, p.layout, p.pad_mode, p.activation);
        read(p.n, p.c, p.k, p.groups, p.image, p.kernel, p.stride, p.dilation, p.pad_before);
        read(p.pad_after, p.x_stride, p.w_stride, p.y_stride);
        options.struct_size = sizeof options;
        read(options.threads, options.precision, options.workspace, place);
    }

  private:
    template <class... F>
    void read(F&... fields) {
        (read_one(fields), ...);
    }
    template <class N>
    void read_one(N& number) {
        number = N(*next_++);
    }
    template <class N, std::size_t SIZE>
    void read_one(N (&numbers)[SIZE]) {
        for (N& number : numbers) read_one(number);
    }

    const Index* next_;
};

// One of the three arrays, of a problem that the library has found no fault with.
struct Array {
    Index shape[FASTCONV_MAX_RANK];
    const Index* stride;
    Index item;  // bytes of an element

    Array(Index outer, Index channels, const Index* image, const Index* strides, Index bytes)
        : shape{outer, channels}, stride(strides), item(bytes) {
        std::copy_n(image, FASTCONV_MAX_SPATIAL, shape + 2);
    }

    // Its element at `place`, the one with index 0 everywhere; false where some of it is not in the
    // buffer.
    bool find(ffi::AnyBuffer& buffer, Index place, int rank, void** first) const {
        *first = buffer.untyped_data();
        if (std::find(shape, shape + rank, 0) != shape + rank) return true;
        const Index elements = Index(buffer.size_bytes()) / item;
        if (place < 0 || place >= elements || stride[0] == FASTCONV_CONTIGUOUS) return false;
        Index low = place, high = place;
        for (int axis = 0; axis < rank; ++axis) {
            const Index last = (shape[axis] - 1) * stride[axis];
            (last < 0 ? low : high) += last;
        }
        *first = static_cast<char*>(*first) + place * item;
        return low >= 0 && high < elements;
    }
};

ffi::Error invalid(const char* what) {
    return ffi::Error::InvalidArgument(std::string("fastconv: ") + what);
}

ffi::Error error(fastconv_status status) {
    if (status == FASTCONV_OK) return ffi::Error::Success();
    if (status != FASTCONV_ERROR_NO_MEMORY) return invalid(fastconv->last_error());
    return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                      "fastconv: not enough memory for the convolution's scratch");
}

ffi::Error convolve(ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> result,
                    Numbers numbers) {
    if (numbers.size() != kNumbers) return invalid("not a call of this version");
    const Call call(numbers);
    const fastconv_problem& p = call.problem;
    Index outputs[FASTCONV_MAX_SPATIAL] = {};
    const fastconv_status checked = fastconv->output_size(&p, outputs);
    if (checked != FASTCONV_OK) return error(checked);
    constexpr Index kItem[] = {4, 8, 1, 1, 2, 2, 2, 2};
    const Index item = kItem[p.dtype];
    const Array x(p.n, p.c, p.image, p.x_stride, item);
    const Array w(p.k, p.c / p.groups, p.kernel, p.w_stride, item);
    const Array y(p.n, p.k, outputs, p.y_stride, item);
    Array arrays[] = {x, w, y};  // a, b, out
    if (p.result == FASTCONV_X) arrays[0] = y, arrays[2] = x;
    if (p.result == FASTCONV_W) arrays[1] = y, arrays[2] = w;
    if (p.dtype >= FASTCONV_INT8 && p.dtype <= FASTCONV_UINT16) arrays[2].item = 4;
    ffi::AnyBuffer* const buffers[] = {&a, &b, &*result};
    void* data[3];
    for (int i = 0; i < 3; ++i) {
        if (!arrays[i].find(*buffers[i], call.place[i], p.spatial + 2, &data[i])) {
            return invalid("the arrays are not those of the call");
        }
    }
    return error(fastconv->run(&p, &call.options, data[0], data[1], nullptr, data[2]));
}

// What XLA's own part of a call costs: see benchmarks/adapters/jax.py.
ffi::Error nothing(ffi::AnyBuffer, ffi::AnyBuffer, ffi::Result<ffi::AnyBuffer>, Numbers) {
    return ffi::Error::Success();
}

template <auto kFunction>
XLA_FFI_Error* handler(XLA_FFI_CallFrame* frame) {
    static auto* const bound = ffi::Ffi::Bind()
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()
                                   .Ret<ffi::AnyBuffer>()
                                   .Attr<Numbers>("numbers")
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
    fastconv = fastconv_import();
    if (!fastconv) return nullptr;
    PyObject* module = PyModule_Create(&definition);
    if (module &&
        (add(module, "convolve", handler<convolve>) || add(module, "nothing", handler<nothing>) ||
         PyModule_AddIntConstant(module, "XLA_FFI_API_MAJOR", XLA_FFI_API_MAJOR) ||
         PyModule_AddIntConstant(module, "XLA_FFI_API_MINOR", XLA_FFI_API_MINOR))) {
        Py_CLEAR(module);
    }
    return module;
}
