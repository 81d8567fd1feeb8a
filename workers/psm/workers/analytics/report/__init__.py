"""The tear sheet of an account or of a group: figures in, one HTML page out."""
