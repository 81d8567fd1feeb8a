"""Risk decisions outside of the pure core: rows in and out."""
