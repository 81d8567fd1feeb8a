"""Importers: files of a venue become events of an account, each once.

Rows of a file (`rows`), of whatever format, become facts (`facts`) by the rules of a venue, which
are pure functions, one module each. What is known already is left out (`known`), the rest is put in
order and numbered (`plan`), appended, and compared with what the venue reports (`run`).
"""
