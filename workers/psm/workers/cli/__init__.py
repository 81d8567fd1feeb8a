"""The `psm` command."""
