// The module `_jax_ffi`: what XLA calls, on its own threads, without Python and without the GIL. It
// links with nothing, and computes by the functions of fastconv_capsule.h.
#define PY_SSIZE_T_CLEAN
#include "xla/ffi/api/ffi.h"

#include <Python.h>

#include <algorithm>
#include <cfenv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "capi/fastconv_capsule.h"

namespace ffi = xla::ffi;

namespace {

using Index = std::int64_t;
using Numbers = ffi::Span<const Index>;

const fastconv_api* fastconv = nullptr;

// A call as interop/jax/foreign.py writes it into the compiled program: the fields of a problem,
// then those of options, in their order and without sizes of structs; then where in the buffers of
// a, b and out their elements with index 0 everywhere are.
constexpr std::size_t kCodes = 6, kSizes = 4 + 6 * FASTCONV_MAX_SPATIAL + 3 * FASTCONV_MAX_RANK;
constexpr std::size_t kOptions = kCodes + kSizes, kPlaces = kOptions + 3, kNumbers = kPlaces + 3;
constexpr std::size_t kFirstSize = offsetof(fastconv_problem, n);
static_assert(sizeof(fastconv_problem) == kFirstSize + kSizes * sizeof(Index));

struct Call {
    fastconv_problem problem;
    fastconv_options options;
    const Index* place;

    explicit Call(const Index* numbers) : place(numbers + kPlaces) {
        const auto code = [&](std::size_t index) { return std::int32_t(numbers[index]); };
        problem.struct_size = sizeof problem;
        problem.result = code(0);
        problem.spatial = code(1);
        problem.dtype = code(2);
        problem.layout = code(3);
        problem.pad_mode = code(4);
        problem.activation = code(5);
        std::memcpy(reinterpret_cast<char*>(&problem) + kFirstSize, numbers + kCodes,
                    kSizes * sizeof(Index));
        options.struct_size = sizeof options;
        options.threads = code(kOptions);
        options.precision = code(kOptions + 1);
        options.workspace = numbers[kOptions + 2];
    }
};

// (image + pads - (kernel - 1) * dilation - 1) / stride + 1: fastconv_output_size without its
// checks, which fastconv_run makes in any case; 0 of what has no such number.
Index outputs_along(const fastconv_problem& p, int axis) {
    Index padded, reach;
    if (p.kernel[axis] < 1 || p.stride[axis] < 1 ||
        __builtin_add_overflow(p.image[axis], p.pad_before[axis], &padded) ||
        __builtin_add_overflow(padded, p.pad_after[axis], &padded) ||
        __builtin_mul_overflow(p.kernel[axis] - 1, p.dilation[axis], &reach) ||
        __builtin_sub_overflow(padded, reach, &padded) || padded < 1) {
        return 0;
    }
    return (padded - 1) / p.stride[axis] + 1;
}

// One of the three arrays.
struct Array {
    Index shape[FASTCONV_MAX_RANK];
    const Index* stride;
    int log_bytes;  // of an element

    // Its element at `place`, the one with index 0 everywhere; false where some of it is not in the
    // buffer. Sizes that are no sizes are those of nothing: then fastconv_run computes nothing.
    bool find(ffi::AnyBuffer& buffer, Index place, int rank, void** first) const {
        *first = buffer.untyped_data();
        if (std::any_of(shape, shape + rank, [](Index size) { return size < 1; })) return true;
        const Index elements = Index(buffer.size_bytes()) >> log_bytes;
        if (place < 0 || place >= elements || stride[0] == FASTCONV_CONTIGUOUS) return false;
        *first = static_cast<char*>(*first) + (place << log_bytes);
        Index low = place, high = place;
        for (int axis = 0; axis < rank; ++axis) {
            Index last;
            if (__builtin_mul_overflow(shape[axis] - 1, stride[axis], &last)) return false;
            Index& end = last < 0 ? low : high;
            if (__builtin_add_overflow(end, last, &end)) return false;
        }
        return low >= 0 && high < elements;
    }
};

// XLA's threads flush subnormals; the library's do not, and results are to be theirs.
class DefaultArithmetic {
  public:
    DefaultArithmetic() {
        std::fegetenv(&kept_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultArithmetic() { std::fesetenv(&kept_); }
    DefaultArithmetic(const DefaultArithmetic&) = delete;
    DefaultArithmetic& operator=(const DefaultArithmetic&) = delete;

  private:
    std::fenv_t kept_;
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

// Says what is wrong with a call whose arrays are not to be touched.
ffi::Error refused(const fastconv_problem& problem) {
    Index sizes[FASTCONV_MAX_SPATIAL];
    const fastconv_status status = fastconv->output_size(&problem, sizes);
    return status == FASTCONV_OK ? invalid("the arrays are not those of the call") : error(status);
}

ffi::Error convolve(ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> result,
                    Numbers numbers) {
    if (numbers.size() != kNumbers) return invalid("not a call of this version");
    const Call call(numbers.begin());
    const fastconv_problem& p = call.problem;
    constexpr int kLogBytes[] = {2, 3, 0, 0, 1, 1, 1, 1};
    const bool known = p.dtype >= FASTCONV_FLOAT32 && p.dtype <= FASTCONV_BFLOAT16 &&
                       p.spatial >= 1 && p.spatial <= FASTCONV_MAX_SPATIAL && p.groups > 0;
    if (!known) return refused(p);
    const int log_bytes = kLogBytes[p.dtype];
    Array x{{p.n, p.c}, p.x_stride, log_bytes}, y{{p.n, p.k}, p.y_stride, log_bytes};
    Array w{{p.k, p.c / p.groups}, p.w_stride, log_bytes};
    for (int axis = 0; axis < p.spatial; ++axis) {
        x.shape[2 + axis] = p.image[axis];
        w.shape[2 + axis] = p.kernel[axis];
        y.shape[2 + axis] = outputs_along(p, axis);
    }
    if (p.dtype >= FASTCONV_INT8 && p.dtype <= FASTCONV_UINT16) y.log_bytes = 2;
    const Array& first = p.result == FASTCONV_X ? y : x;
    const Array& second = p.result == FASTCONV_W ? y : w;
    const Array& out = p.result == FASTCONV_X ? x : p.result == FASTCONV_W ? w : y;
    const int rank = p.spatial + 2;
    const Index* place = call.place;
    void *a_data, *b_data, *out_data;
    if (!first.find(a, place[0], rank, &a_data) || !second.find(b, place[1], rank, &b_data) ||
        !out.find(*result, place[2], rank, &out_data)) {
        return refused(p);
    }
    const DefaultArithmetic during;
    return error(fastconv->run(&p, &call.options, a_data, b_data, nullptr, out_data));
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
