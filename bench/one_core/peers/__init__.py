"""Other compilers and libraries, one class each."""
