"""The report of a search and its pictures."""
