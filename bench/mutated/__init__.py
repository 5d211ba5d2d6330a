"""Mutants of every kernel that the compiler makes for NVIDIA: which problems, how they run, and why some survive."""
