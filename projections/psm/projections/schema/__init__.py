"""The schema: migrations, roles, shadow tables."""
