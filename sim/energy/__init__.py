"""Energy: events and what they cost, switching activity."""
