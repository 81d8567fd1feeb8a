"""Ways in and out of the log for what other systems say."""
