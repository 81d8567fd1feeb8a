"""Which event takes which place of a stream."""
