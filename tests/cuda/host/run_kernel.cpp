// One kernel for the machine. -D KERNEL_FILE="igemm_simt.cu", KERNEL_ENTRY=igemm_simt, and the
// constants of its configuration.
#include KERNEL_FILE

#include "parameters.cuh"

void host::run_thread(const void* parameters) {
    KERNEL_ENTRY(*static_cast<const ConvParameters*>(parameters));
}
