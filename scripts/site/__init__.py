"""The site of the documentation: pages of `docs/`, the README, a page of all commands."""
