// The C interface as a capsule, for extensions that link with nothing (capi/fastconv_capsule.h).
#include <pybind11/pybind11.h>

#include "capi/fastconv_capsule.h"
#include "python/module.hpp"

namespace fastconv {

void bind_capsule(py::module_& module) {
    module.attr("_C_API") = py::capsule(fastconv_get_api(), FASTCONV_CAPSULE);
}

}  // namespace fastconv
