"""What one step asks of a device: a demand per operator."""
