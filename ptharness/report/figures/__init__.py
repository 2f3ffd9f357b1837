"""One file per figure: rows of the tables -> a Vega-Lite chart.

Foreign text stands in data values only, never in a field name or an expression. Colours are CSS
variables, which the page sets for light, dark and print.
"""
