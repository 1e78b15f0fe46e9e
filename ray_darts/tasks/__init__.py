"""What every task shares: the loop, a step of the weights, sums over ranks, metrics. Knows no store and no Ray.

Import from the modules.
"""
