"""Does the location matter? Edits at localized heads against edits at random ones.

After Wang and Veitch, "Does Editing Provide Evidence for Localization?" (arXiv 2502.11447): an edit that works at a
location says little about the location if edits at random locations work as well. A behaviour is a set of questions
with right and wrong answers (`preferences`). A localizer ranks heads (`localizers`). An edit (`edit`) is a shift along
a probe's direction (`probes`) or the best rank-one change of the output projections (trained by `align`).
"""
