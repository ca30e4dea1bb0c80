"""The fault campaign: kills, damaged files, changed settings, unequal ranks and malformed rows; the outcome is judged.

`python -m eval.faults --out DIR` tries all of it; `eval/README.md` says what it has found.
"""
