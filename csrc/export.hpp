// What the Python module takes from the shared library beside the C interface (capi/fastconv.h).
// Nothing else is seen from outside; capi/exports.map keeps these names apart from the public ones.
#pragma once

#define FASTCONV_FOR_PYTHON __attribute__((visibility("default")))
