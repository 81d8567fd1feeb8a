"""The views of PostgreSQL: followed, rebuilt, measured."""
