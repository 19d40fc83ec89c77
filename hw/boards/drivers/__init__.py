"""Hosts of boards: `hw.host` over what connects them."""
