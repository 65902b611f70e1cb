"""What an engine would refuse: requests longer than the context (`context`), settings (`remarks`)."""
