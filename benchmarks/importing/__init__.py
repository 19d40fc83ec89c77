"""Networks that nothing here names."""
