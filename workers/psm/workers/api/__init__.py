"""The read API: one set of documents, over HTTP and NATS request-reply."""
