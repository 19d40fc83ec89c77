"""From an integer network to a Program."""
