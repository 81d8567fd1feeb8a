"""What each event books."""
