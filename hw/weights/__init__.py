"""The weight side: ports that stream weights, the columns' memories, and the ring of requantization parameters."""
