"""Requests as they are offered (`requests`), and the tokens that speculative decoding yields (`emission`)."""
