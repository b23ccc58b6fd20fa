"""The CUDA backend without a GPU: a host model of the device, and a stand-in for CuPy on it."""
