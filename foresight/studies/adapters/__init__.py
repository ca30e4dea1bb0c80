"""PEFT adapters: other ways to train as many parameters as a mask does.

`adapt` makes the largest adapter of a method whose trainable parameters do not exceed a given number, on the Linears
that masks can touch, for any family of `foresight.model.architectures`. The number follows from the shapes of the
Linears and is checked when training begins. Updates have scale 1 (alpha equals rank), so a sweep over learning rates
covers the scale too: with Adam, the scale multiplies the step of the factor that starts at zero.

- `lora`: the same rank everywhere (Hu et al., arXiv 2106.09685).
- `adalora`: ranks that are pruned by sensitivity during training (Zhang et al., arXiv 2303.10512).
- `shira`: single weights drawn at random, in each Linear as many as LoRA of one common rank has parameters there
  (Bhardwaj et al., arXiv 2406.13175).
- `ia3`: factors on keys, values and neurons; it has one size (Liu et al., arXiv 2205.05638).
- `circuit_lora`: LoRA whose ranks follow component scores, after CircuitLoRA (Wang et al., arXiv 2502.11812); our own
  definition, see `circuit_ranks`.
"""

from .methods import METHODS, Adapter, adapt
from .ranks import circuit_ranks

__all__ = ["METHODS", "Adapter", "adapt", "circuit_ranks"]
