"""Energy: events against switching activity, and DeiT-S beside published figures."""
