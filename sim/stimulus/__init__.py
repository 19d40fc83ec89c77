"""What is simulated: networks, machines and Programs, chosen, drawn or corrupted."""
