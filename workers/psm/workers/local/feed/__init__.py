"""A feed that knows nothing of PSM: `python -m feed`, with the folder above on the path."""
