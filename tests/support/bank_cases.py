"""Banks on tiny models, and their training without a trainer: what the tests of all kinds of bank share."""

import numpy as np
import torch

from foresight.bank import Bank
from foresight.bank.base_weights import is_bank_key
from foresight.bank.optimizer import BankAdamW
from foresight.masks.budget import budget_vectors
from foresight.masks.selection import select
from foresight.model.components import component_table, stored_transposed
from support.tiny import tiny, tokens

SETTINGS = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)


def random_mask(bank, seed):
    return select(np.random.default_rng(seed).random(len(bank.table)), bank.table, len(bank.vectors))


def banked(family="llama", budget=0.3, seed=0, dtype=torch.float32, kind=Bank, eps=SETTINGS["eps"], **changes):
    """(model, bank of vectors with a random mask, optimizer) of a tiny model."""
    model = tiny(family, dtype=dtype, **changes)
    table = component_table(model)
    bank = kind(model, table, budget_vectors(table, budget))
    bank.remask(random_mask(bank, seed))
    return model, bank, BankAdamW(bank.vectors, **SETTINGS | {"eps": eps})


def train(model, optimizer, steps, accumulate=1, start=0):
    model.train()
    for step in range(start, start + steps):
        for rows in tokens(seed=step).chunk(accumulate):
            (model(input_ids=rows, labels=rows).loss / accumulate).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def weight_masks(model, table, mask):
    """Parameter name -> bool tensor, True where the mask trains: written down from the slices, not from the bank."""
    masks = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in model.named_parameters() if not is_bank_key(n)}
    for i in mask.components:
        for piece in table.components[i].slices:
            module = model.get_submodule(piece.module)
            inside = masks[f"{piece.module}.weight"]
            inside = inside.T if stored_transposed(module) else inside
            if piece.axis == "row":
                inside[piece.start : piece.stop] = True
            else:
                inside[:, piece.start : piece.stop] = True
    return masks
