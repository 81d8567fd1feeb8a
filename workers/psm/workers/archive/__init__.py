"""The event archive: written message by message, read with causes and explanations."""
