"""The operating system: files, memory, CPU cores, signals and their limits; and the compiler of kernels."""
