"""What a variant is worth and what it costs: accuracy, latency, memory, and where it fits."""
