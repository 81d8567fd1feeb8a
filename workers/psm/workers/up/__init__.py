"""All of PSM on one machine, as `psm up` runs it."""
