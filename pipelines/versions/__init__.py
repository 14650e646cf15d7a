"""Releases of data and experiments under git tags: made, fetched, done again, compared, and what nothing refers to."""
