"""`make observe`: the real stack, a real Prometheus that scrapes it, every panel and rule asked."""
