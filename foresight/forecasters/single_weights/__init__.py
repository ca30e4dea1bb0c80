"""Where the weights of a model are going, as far as the beginning of a run shows.

How far each single weight will move, for masks of single weights:
`sums` keeps sums over steps of every weight, `features` describes a weight by them, `movement` forecasts from that.

What components will score once the weights have moved:
`shift` moves the weights of a model for a while, `extrapolate` scores there (the Taylor forecast and its control).
"""
