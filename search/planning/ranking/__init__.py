"""Rank the candidates, group the equivalent ones, and say why others do not qualify.

`candidates` has the ranking. `reasons` explains a miss and what to relax, `unqualified_devices` does so by device, and
`odds` computes how likely the winner beats another candidate.
"""
