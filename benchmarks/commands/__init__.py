"""The commands as a user's machine meets them."""
