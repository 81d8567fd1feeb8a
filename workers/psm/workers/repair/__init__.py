"""Ways on after a stop or a loss."""
