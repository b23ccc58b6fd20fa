// How the C interface fails: exceptions inside, a status and a message of the thread outside.
#pragma once

#include <exception>
#include <new>

#include "capi/fastconv.h"

namespace fastconv {

// Thrown by `fail` with its message already kept for fastconv_last_error().
struct Failure {
    fastconv_status status;
};

// Keeps a message, printed as printf does, for the calling thread.
fastconv_status report(fastconv_status status, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

[[noreturn]] void fail(fastconv_status status, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

// Runs the body of a C function: nothing that it throws leaves.
template <class Body>
fastconv_status guarded(const Body& body) noexcept {
    try {
        body();
        return FASTCONV_OK;
    } catch (const Failure& failure) {
        return failure.status;
    } catch (const std::bad_alloc&) {
        return report(FASTCONV_ERROR_NO_MEMORY, "there is not enough memory");
    } catch (const std::exception& error) {
        return report(FASTCONV_ERROR_INTERNAL, "%s", error.what());
    } catch (...) {
        return report(FASTCONV_ERROR_INTERNAL, "an unknown exception");
    }
}

}  // namespace fastconv
