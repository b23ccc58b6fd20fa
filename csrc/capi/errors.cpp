#include "capi/errors.hpp"

#include <cstdarg>
#include <cstdio>

namespace fastconv {
namespace {

// Of a fixed size: out of memory is reported here as well.
thread_local char message[512] = "";

void keep(const char* format, std::va_list values) {
    std::vsnprintf(message, sizeof message, format, values);
}

}  // namespace

fastconv_status report(fastconv_status status, const char* format, ...) {
    std::va_list values;
    va_start(values, format);
    keep(format, values);
    va_end(values);
    return status;
}

void fail(fastconv_status status, const char* format, ...) {
    std::va_list values;
    va_start(values, format);
    keep(format, values);
    va_end(values);
    throw Failure{status};
}

}  // namespace fastconv

const char* fastconv_last_error(void) {
    return fastconv::message;
}

const char* fastconv_status_string(fastconv_status status) {
    switch (status) {
        case FASTCONV_OK:
            return "done";
        case FASTCONV_ERROR_NULL:
            return "a pointer that is needed is null";
        case FASTCONV_ERROR_STRUCT_SIZE:
            return "struct_size is no size that this library knows";
        case FASTCONV_ERROR_VALUE:
            return "a number that its field does not take";
        case FASTCONV_ERROR_SIZE:
            return "sizes that describe no convolution";
        case FASTCONV_ERROR_OVERFLOW:
            return "sizes or strides beyond 64-bit index arithmetic";
        case FASTCONV_ERROR_MEMORY:
            return "misaligned memory, or the result in the wrong place";
        case FASTCONV_ERROR_UNSUPPORTED:
            return "a convolution without a kernel in this library";
        case FASTCONV_ERROR_NO_MEMORY:
            return "not enough memory";
        case FASTCONV_ERROR_PROCESSOR:
            return "the instruction set of FASTCONV_ISA cannot be used";
        case FASTCONV_ERROR_INTERNAL:
            return "a defect of the library";
    }
    return "no status of this library";
}
