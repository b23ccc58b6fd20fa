// What computes a description: one of three results of one type, each over its own ladder.
#pragma once

#include <string>

#include "capi/description.hpp"

namespace fastconv {

struct Pointers {
    const void *a, *b, *packed, *bias;
    void* out;
};

struct Operation {
    Status (*run)(const Description&, const Pointers&, const Resources&);
    Footprint (*footprint)(const Problem&, const Resources&, bool packed);
    std::string (*name)(const Problem&, bool fast);
    // Null where nothing can be packed.
    Index (*packed_bytes)(const Problem&, bool fast);
    Status (*pack)(const Description&, bool fast, const void* w, void* packed);
};

// Throws Failure where there is no kernel.
const Operation& operation_of(const Description& description);

}  // namespace fastconv
