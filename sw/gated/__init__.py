"""Gated pairs and inference with them."""
