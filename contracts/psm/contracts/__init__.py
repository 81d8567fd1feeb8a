"""What other services may rely on: events, updates, subjects, schemas, publisher."""
