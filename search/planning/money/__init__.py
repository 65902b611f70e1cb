"""Look up what the devices on offer cost, and keep the account of a deployment by hour, request and token.

`prices` has the `Tariff`: prices, nodes and hosts by device type. `account` computes bills, carbon and API prices with
it. Nothing here knows a candidate or an estimate.
"""
