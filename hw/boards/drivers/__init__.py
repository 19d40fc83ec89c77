"""Hosts of boards: `hw.batch` over what connects them."""
