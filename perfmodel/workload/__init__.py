"""What is asked: request classes, traces, arrivals, objectives."""
