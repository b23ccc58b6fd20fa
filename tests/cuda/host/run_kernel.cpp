// One kernel as a shared library. -D KERNEL_FILE="igemm_simt.cu", KERNEL_ENTRY=igemm_simt, and the
// constants of its configuration.
#include KERNEL_FILE

#include "parameters.cuh"

// Returns 0, or 1 and the fault in `message`.
extern "C" int run_kernel(const ConvParameters* parameters, std::int64_t blocks, int threads,
                          const host::Region* regions, int region_count, int schedule,
                          unsigned seed, int races, char* message, int message_bytes) {
    host::Machine machine(threads, schedule, seed, races != 0, {regions, regions + region_count});
    host::machine = &machine;
    const std::string fault = machine.run(blocks, [&] { KERNEL_ENTRY(*parameters); });
    host::machine = nullptr;
    std::snprintf(message, message_bytes, "%s", fault.c_str());
    return fault.empty() ? 0 : 1;
}
