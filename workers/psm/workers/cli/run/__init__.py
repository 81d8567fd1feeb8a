"""Commands that run: processes and whole installations."""
