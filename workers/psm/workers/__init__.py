"""The processes: partition worker, projector, reads, command line."""
