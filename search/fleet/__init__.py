"""How many of which: the integer program."""
