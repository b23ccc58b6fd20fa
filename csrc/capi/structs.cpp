// The structs that callers fill, of this version and later ones, and the options in them.
#include <algorithm>
#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "capi/description.hpp"
#include "capi/errors.hpp"

namespace fastconv {
namespace {

// No struct of any version is larger; what claims to be is not read.
constexpr size_t kLargestStruct = 4096;

constexpr int kMostThreads = 1 << 16;
constexpr Index kLeastWorkspace = 1 << 16, kWorkspace = Index(8) << 20;

// A positive number in the environment, the first of several; 0 where there is none.
int number_in_environment(const char* variable) {
    const char* text = std::getenv(variable);
    const long number = text ? std::strtol(text, nullptr, 10) : 0;
    return int(std::clamp(number, 0L, long(kMostThreads)));
}

int default_threads() {
    static const int threads = [] {
        for (const char* variable : {"FASTCONV_THREADS", "OMP_NUM_THREADS"}) {
            if (const int number = number_in_environment(variable)) return number;
        }
        static const int processors = int(std::thread::hardware_concurrency());
        return std::max(1, processors);
    }();
    return threads;
}

// Zeros in all of a struct, that of a later version, too.
template <class S>
S& cleared(S* given, size_t struct_size, const char* name) {
    if (!given) fail(FASTCONV_ERROR_NULL, "%s is null", name);
    if (struct_size < sizeof *given || struct_size > kLargestStruct) {
        fail(FASTCONV_ERROR_STRUCT_SIZE, "struct_size of %s is %zu, and must be at least %zu", name,
             struct_size, sizeof *given);
    }
    std::memset(given, 0, struct_size);
    given->struct_size = struct_size;
    return *given;
}

}  // namespace

void check_number(const char* field, Index value, Index least, Index most) {
    if (value >= least && value <= most) return;
    fail(FASTCONV_ERROR_VALUE, "%s is %" PRId64 ", and must be %" PRId64 " to %" PRId64, field,
         value, least, most);
}

int checked_threads(int threads) {
    check_number("threads", threads, 0, kMostThreads);
    return threads;
}

Resources resources_of(const fastconv_options* given) {
    if (!given) return {default_threads(), kWorkspace, false};
    const fastconv_options options = read_struct(given, "options");
    check_number("precision", options.precision, FASTCONV_STRICT, FASTCONV_FAST);
    check_number("workspace", options.workspace, kLeastWorkspace, kIndexLimit - 1);
    const int threads = checked_threads(options.threads);
    return {threads ? threads : default_threads(), options.workspace,
            options.precision == FASTCONV_FAST};
}

// A later version's struct is longer, and what it has beyond ours must be zero: then it means what
// ours does. Nothing older is shorter than the first version, which this is.
void copy_struct(void* copy, size_t known, const void* given, const char* name) {
    if (!given) fail(FASTCONV_ERROR_NULL, "%s is null", name);
    size_t size;
    std::memcpy(&size, given, sizeof size);
    if (size < known || size > kLargestStruct) {
        fail(FASTCONV_ERROR_STRUCT_SIZE,
             "%s->struct_size is %zu, and must be sizeof(fastconv_%s) = %zu: initialise it with "
             "fastconv_%s_init",
             name, size, name, known, name);
    }
    const char* bytes = static_cast<const char*>(given);
    if (std::any_of(bytes + known, bytes + size, [](char byte) { return byte != 0; })) {
        fail(FASTCONV_ERROR_STRUCT_SIZE,
             "%s asks for what only a later version of fastconv knows than this library's", name);
    }
    std::memcpy(copy, given, known);
}

}  // namespace fastconv

fastconv_status fastconv_problem_init(fastconv_problem* problem, size_t struct_size) {
    using namespace fastconv;
    return guarded([&] {
        fastconv_problem& p = cleared(problem, struct_size, "problem");
        p.spatial = 2;
        p.n = p.groups = 1;
        std::fill_n(p.stride, FASTCONV_MAX_SPATIAL, 1);
        std::fill_n(p.dilation, FASTCONV_MAX_SPATIAL, 1);
        p.x_stride[0] = p.w_stride[0] = p.y_stride[0] = FASTCONV_CONTIGUOUS;
    });
}

fastconv_status fastconv_options_init(fastconv_options* options, size_t struct_size) {
    using namespace fastconv;
    return guarded([&] { cleared(options, struct_size, "options").workspace = kWorkspace; });
}
