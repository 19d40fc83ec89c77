"""What takes longer than a test: scripts by subject, their results, and the pages written from them."""
