"""Does the location matter? Edits at localized heads against edits at random ones.

After Wang and Veitch, "Does Editing Provide Evidence for Localization?" (arXiv 2502.11447): an edit that works at a
location says little about it if edits at random locations work as well. A behaviour is what right answers are
preferred to wrong ones (`preferences`), a localizer ranks heads (`localizers`), an edit is a shift along a probe's
direction (`steering`) or the best rank-one change of the output projections (`edit`, trained by `align`).
"""
