"""Where the weights of a model are going, as far as the beginning of a run shows.

How much each row and column will take part, for masks of single weights:
`margins` is a map of that and draws masks from it, `mixing` weighs the maps of other runs by a run's own first steps.

What components will score once the weights have moved:
`shift` moves the weights of a model for a while, `extrapolate` scores there (the Taylor forecast and its control).
"""
