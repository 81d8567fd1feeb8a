"""Private parts of publisher and factory."""
