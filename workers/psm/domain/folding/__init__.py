"""One message into the books."""
