"""What PostgreSQL knows of the log."""
