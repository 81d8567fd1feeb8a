"""The event archive."""
