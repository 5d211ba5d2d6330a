"""One core: the rows of the table, the limits, and the contenders, each in a process of its own."""
