"""What an account publishes."""
