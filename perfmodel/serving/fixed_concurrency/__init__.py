"""Loads with a fixed number of requests in flight: clients of a closed loop, and static batches."""
