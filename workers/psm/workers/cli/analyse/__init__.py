"""Commands that make figures of what was recorded."""
