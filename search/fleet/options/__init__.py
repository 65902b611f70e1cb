"""Turn the options of a scenario into options of the program: layouts, prices by region, terms of supply.

`layouts` models each legal layout of an option as an option of its own, `buckets` cuts a request class by length, and
`regions` and `terms` add prices, networks, supplies and risks.
"""
