"""Does the location matter? Edits at localized heads against edits at random ones.

After Wang and Veitch, "Does Editing Provide Evidence for Localization?" (arXiv 2502.11447): an edit that works at a
location says little about the location if edits at random locations work as well.
"""
