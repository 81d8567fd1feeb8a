"""All of PSM on one machine."""
