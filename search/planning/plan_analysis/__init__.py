"""Answer questions about a plan from its own candidates, without planning again.

Where time and memory go (`explained`), the peak of the load (`peaks`), ways to pay (`payment_options`), and the same
candidates at other prices (`repricing`).
"""
