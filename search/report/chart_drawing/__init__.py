"""Draw charts as Plotly figures in plain data, describe them in words, write them as pictures.

`charts`, `curve_charts`, `grid_charts` and `roofline_plot` each draw one kind. Nothing here knows a plan.
"""
