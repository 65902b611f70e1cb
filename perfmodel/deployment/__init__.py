"""How a model is laid out on devices: degrees, formats, shards."""
