"""Statements about who may ask; the code that runs them is the access room of the workers."""
