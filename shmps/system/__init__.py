"""The operating system: files, memory, cores, signals and their limits, and the compiler of kernels."""
