"""Why a number is that number, and why an event happened."""
