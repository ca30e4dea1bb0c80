"""Speed and memory of training by mask, side by side with what one would use instead; `python -m eval.speed --help`.

Arms take turns in one process; each round gives one ratio to full fine-tuning, and the median of the rounds is reported
with their range. On a CPU it is CPU times that are compared, which other work on the machine disturbs least, on an
accelerator wall times; both are recorded.
"""
