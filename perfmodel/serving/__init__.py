"""Closed form of serving: from steps to latency and throughput."""
