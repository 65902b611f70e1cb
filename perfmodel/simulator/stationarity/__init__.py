"""Whether a run is stationary: statistics of a series (`steady`), the end of the warm-up (`warming`)."""
