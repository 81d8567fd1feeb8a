"""Commands that decide on orders before they are sent."""
