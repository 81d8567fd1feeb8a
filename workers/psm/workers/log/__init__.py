"""Reading the log and what was committed of it."""
