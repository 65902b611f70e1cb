"""Price any operator by what bounds it: arithmetic, memory traffic, a launch, or the links of a collective."""
