"""What lies in device memory, and what fits."""
