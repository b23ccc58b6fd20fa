// The functions of fastconv.h that compute: checks, then the algorithm. Nothing is thrown out of
// them, and nothing is written before everything has been checked.
#include "capi/fastconv.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "capi/description.hpp"
#include "capi/errors.hpp"
#include "capi/operation.hpp"
#include "conv/elements.hpp"
#include "cpu.hpp"

// Weights, and the form their algorithm reads where it has one. Nothing changes after it is made,
// so any number of threads may use it at once.
struct fastconv_plan {
    fastconv::Description description;  // w is that of the copy
    fastconv::Resources resources;
    const fastconv::Operation& operation;
    fastconv::PackedMemory w, bias, packed;
    fastconv::Index packed_bytes = 0;
};

namespace fastconv {
namespace {

void require_processor() {
    try {
        active_isa();
    } catch (const std::runtime_error& error) {
        fail(FASTCONV_ERROR_PROCESSOR, "%s", error.what());
    }
}

void check_pointer(const char* name, const void* data, Index elements, Index alignment) {
    if (!data && elements > 0) fail(FASTCONV_ERROR_NULL, "%s is null", name);
    // a power of two
    if ((reinterpret_cast<std::uintptr_t>(data) & std::uintptr_t(alignment - 1)) == 0) return;
    fail(FASTCONV_ERROR_MEMORY, "%s is misaligned: its address must be a multiple of %" PRId64,
         name, alignment);
}

void check_bias(const Description& d, const void* bias) {
    if (bias && d.result == FASTCONV_W) {
        fail(FASTCONV_ERROR_VALUE, "a gradient of w has no bias: pass null");
    }
    check_pointer("bias", bias, 0, result_bytes(d.problem.element));
}

// What a call reads and writes beside the weights of a plan.
void check_arrays(const Description& d, const void* a, const void* out) {
    const Element element = d.problem.element;
    check_pointer("a", a, elements(d, d.a()), operand_bytes(element));
    check_pointer("out", out, elements(d, d.out()), result_bytes(element));
    if (out && out == a) fail(FASTCONV_ERROR_MEMORY, "out is a: nothing is computed in place");
}

void throw_unless_ok(Status status) {
    if (status != Status::kOk) throw std::bad_alloc();
}

void fill(fastconv_info* info, const Description& d, const Operation& operation,
          const Resources& resources, Index packed_bytes, bool packed) {
    if (!info) fail(FASTCONV_ERROR_NULL, "info is null");
    // the caller's struct may be that of a later version, what it has beyond ours stays
    if (info->struct_size < sizeof *info) {
        fail(FASTCONV_ERROR_STRUCT_SIZE, "info->struct_size is %zu, and must be at least %zu",
             info->struct_size, sizeof *info);
    }
    Problem problem = d.problem;
    problem.n = std::max<Index>(1, problem.n);  // algorithms describe no empty problems
    const Footprint footprint = operation.footprint(problem, resources, packed);
    const std::string name = operation.name(problem, resources.fast);
    const size_t length = std::min(name.size(), sizeof info->algorithm - 1);
    std::memset(info->algorithm, 0, sizeof info->algorithm);
    std::memcpy(info->algorithm, name.data(), length);
    info->workspace_bytes = footprint.scratch_bytes;
    info->packed_bytes = packed_bytes;
    info->threads = footprint.threads;
    info->reserved = 0;
}

// Copies weights without gaps, row by row of the kernel.
void copy_weights(const Description& d, const void* w, void* copy) {
    const ArrayForm& form = d.w;
    const Index item = operand_bytes(d.problem.element);
    const int last = d.rank() - 1;
    const char* row = static_cast<const char*>(w);
    char* to = static_cast<char*>(copy);
    Index index[FASTCONV_MAX_RANK] = {};
    for (Index rows = elements(d, form) / form.shape[last]; rows > 0; --rows) {
        for (Index i = 0; i < form.shape[last]; ++i, to += item) {
            std::memcpy(to, row + i * form.stride[last] * item, std::size_t(item));
        }
        for (int axis = last - 1; axis >= 0; --axis) {
            row += form.stride[axis] * item;
            if (++index[axis] < form.shape[axis]) break;
            row -= form.shape[axis] * form.stride[axis] * item;
            index[axis] = 0;
        }
    }
}

std::unique_ptr<fastconv_plan> make_plan(const fastconv_problem* problem,
                                         const fastconv_options* options, const void* w,
                                         const void* bias) {
    Description d = describe(problem);
    const Operation& operation = operation_of(d);
    const Resources resources = resources_of(options);
    if (!operation.pack) {
        fail(FASTCONV_ERROR_UNSUPPORTED,
             "a gradient of w has no weights to plan with: use "
             "fastconv_run");
    }
    const Index item = operand_bytes(d.problem.element), count = elements(d, d.w);
    check_pointer("w", w, count, item);
    check_bias(d, bias);
    require_processor();
    d.problem.n = 1;  // what is packed depends on no batch, and algorithms take no empty one
    std::unique_ptr<fastconv_plan> plan(new fastconv_plan{d, resources, operation, {}, {}, {}, 0});
    plan->packed_bytes = operation.packed_bytes(d.problem, resources.fast);
    if (plan->packed_bytes > 0) {
        plan->packed = allocate_packed(plan->packed_bytes);
        throw_unless_ok(operation.pack(d, resources.fast, w, plan->packed.get()));
    }
    // beside the packed form, too: some algorithms look at the weights themselves (volumes whose
    // weights are not finite, integers and 16-bit floats whose y is one pixel)
    plan->w = allocate_packed(count * item);
    copy_weights(d, w, plan->w.get());
    make_contiguous(plan->description.w, d.rank());
    if (bias) {
        const Index bytes = channels_of_result(d) * result_bytes(d.problem.element);
        plan->bias = allocate_packed(bytes);
        std::memcpy(plan->bias.get(), bias, std::size_t(bytes));
    }
    return plan;
}

// A plan's description for n images, and what they may use.
Description batch_of(const fastconv_plan* plan, Index n) {
    if (!plan) fail(FASTCONV_ERROR_NULL, "plan is null");
    return with_batch(plan->description, n);
}

Resources resources_with(const fastconv_plan& plan, int threads) {
    Resources resources = plan.resources;
    if (checked_threads(threads) > 0) resources.threads = threads;
    return resources;
}

}  // namespace
}  // namespace fastconv

using namespace fastconv;

fastconv_status fastconv_output_size(const fastconv_problem* problem, int64_t* sizes) {
    return guarded([&] {
        const Description d = describe(problem);
        if (!sizes) fail(FASTCONV_ERROR_NULL, "sizes is null");
        std::copy_n(d.y.shape + 2, d.spatial, sizes);
    });
}

fastconv_status fastconv_query(const fastconv_problem* problem, const fastconv_options* options,
                               fastconv_info* info) {
    return guarded([&] {
        const Description d = describe(problem);
        const Operation& operation = operation_of(d);
        const Resources resources = resources_of(options);
        require_processor();
        fill(info, d, operation, resources, 0, false);
    });
}

fastconv_status fastconv_run(const fastconv_problem* problem, const fastconv_options* options,
                             const void* a, const void* b, const void* bias, void* out) {
    return guarded([&] {
        const Description d = describe(problem);
        const Operation& operation = operation_of(d);
        const Resources resources = resources_of(options);
        check_arrays(d, a, out);
        check_pointer("b", b, elements(d, d.b()), operand_bytes(d.problem.element));
        check_bias(d, bias);
        if (out && (out == b || out == bias)) {
            fail(FASTCONV_ERROR_MEMORY, "out is %s: nothing is computed in place",
                 out == b ? "b" : "bias");
        }
        require_processor();
        throw_unless_ok(operation.run(d, {a, b, nullptr, bias, out}, resources));
    });
}

fastconv_status fastconv_plan_create(const fastconv_problem* problem,
                                     const fastconv_options* options, const void* w,
                                     const void* bias, fastconv_plan** plan) {
    if (plan) *plan = nullptr;
    return guarded([&] {
        if (!plan) fail(FASTCONV_ERROR_NULL, "plan is null");
        *plan = make_plan(problem, options, w, bias).release();
    });
}

fastconv_status fastconv_plan_run(const fastconv_plan* plan, int64_t n, const void* a, void* out,
                                  int threads) {
    return guarded([&] {
        const Description d = batch_of(plan, n);
        const Resources resources = resources_with(*plan, threads);
        check_arrays(d, a, out);
        const Pointers at{a, plan->w.get(), plan->packed.get(), plan->bias.get(), out};
        throw_unless_ok(plan->operation.run(d, at, resources));
    });
}

fastconv_status fastconv_plan_query(const fastconv_plan* plan, int64_t n, int threads,
                                    fastconv_info* info) {
    return guarded([&] {
        const Description d = batch_of(plan, n);
        const Resources resources = resources_with(*plan, threads);
        fill(info, d, plan->operation, resources, plan->packed_bytes, true);
    });
}

void fastconv_plan_destroy(fastconv_plan* plan) {
    delete plan;
}

int fastconv_version(void) {
    return FASTCONV_VERSION;
}

#define FASTCONV_TEXT(number) #number
#define FASTCONV_DOTTED(major, minor, patch) \
    FASTCONV_TEXT(major) "." FASTCONV_TEXT(minor) "." FASTCONV_TEXT(patch)

const char* fastconv_version_string(void) {
    return FASTCONV_DOTTED(FASTCONV_VERSION_MAJOR, FASTCONV_VERSION_MINOR, FASTCONV_VERSION_PATCH);
}

const char* fastconv_isa(void) {
    const char* isa = nullptr;
    guarded([&] {
        require_processor();
        isa = active_isa();
    });
    return isa;
}

const fastconv_api* fastconv_get_api(void) {
    static const fastconv_api api{
        sizeof(fastconv_api),  fastconv_version,       fastconv_version_string,
        fastconv_isa,          fastconv_status_string, fastconv_last_error,
        fastconv_problem_init, fastconv_options_init,  fastconv_output_size,
        fastconv_query,        fastconv_run,           fastconv_plan_create,
        fastconv_plan_run,     fastconv_plan_query,    fastconv_plan_destroy};
    return &api;
}
