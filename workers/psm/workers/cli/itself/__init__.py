"""Commands about PSM itself."""
