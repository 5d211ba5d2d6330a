"""What makes a module better at the same level: one pass a file, file name = pass name = test name."""
