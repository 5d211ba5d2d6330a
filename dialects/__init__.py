"""What can be said: one file or folder per dialect, its NumPy meaning beside it."""
