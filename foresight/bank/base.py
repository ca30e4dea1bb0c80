"""What all banks share: the one trainable parameter, whose rows change meaning at a re-mask, and the record of them.

Rows are in the order of vector ids, hence target by target: one `split` per forward pass hands every Linear its piece.
Re-masking folds leaving vectors into the base (recorded in fp32 in the `Ledger`), keeps value and Adam state of those
that stay, and starts entering ones with fresh moments and age. Biases, norms and embeddings are never trained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..common.errors import CheckpointError, ConfigError
from ..masks.masks import Mask, WeightMask
from ..model.architectures import tower_of
from ..model.components import turned
from ..model.numbering import Numbering, Target
from ..model.placement import Placement
from .base_weights import BANK_NAME, BaseWeights, Ledger, is_bank_key, write_vectors
from .optimizer import BankAdamW

CHUNKS = 16


class AnyBank(nn.Module, ABC):
    """Base of all banks. A subclass says how a Linear computes with its piece (`_forward_of`).

    Args:
        model: a stock Hugging Face causal LM with fp32 or bf16 weights. All its parameters are frozen.
        table: what it has to train.
        n_vectors: rows of the bank, at least as many as any mask will need. Rows that a mask leaves over are spare:
            they belong to the budget, have no effect and get no gradient.

    Attributes:
        vectors: float32 Parameter [n_vectors, length], the differences to the base, whatever the base's dtype.
        ids: int64 [n_active], sorted ids of the table's vectors in rows 0..n_active-1.
        mask: the mask in force.
        placement: where parameters are; `place` sets another one once they have been sharded.

    Raises:
        ConfigError: a target is neither fp32 nor bf16, or the model has a bank already.
    """

    table: Numbering
    mask: Mask | WeightMask
    nothing: ClassVar[Mask | WeightMask] = Mask(())
    """The mask to begin with."""

    def __init__(self, model: nn.Module, table: Numbering, n_vectors: int, placement: Placement | None = None):
        super().__init__()
        backbone = model.get_submodule(tower_of(model))
        if hasattr(backbone, BANK_NAME):
            raise ConfigError("this model has a bank already; call detach() on it first, or load the model afresh")
        for target in table.targets:
            dtype = model.get_submodule(target.module).weight.dtype
            if dtype not in (torch.float32, torch.bfloat16):
                raise ConfigError(f"{target.module} has dtype {dtype}; expected float32 or bfloat16 weights")
        self.table, self.mask, self.n_vectors = table, self.nothing, n_vectors
        self.ids = torch.zeros(0, dtype=torch.int64)
        self.ledger = Ledger(table.d_model)
        # Not registered as a submodule: the model owns the bank, not the other way round.
        object.__setattr__(self, "model", model)
        model.requires_grad_(False)
        self.placement = placement or Placement()
        self.base = BaseWeights(model, table, self.placement)
        weight = model.get_submodule(table.targets[0].module).weight
        self.vectors = nn.Parameter(torch.zeros(n_vectors, table.d_model, device=weight.device))
        self._dtype = self.base.dtype
        self._pieces: dict[str, Tensor] = {}
        self._touched: dict[str, nn.Module] = {}
        self._touch()
        backbone.add_module(BANK_NAME, self)
        self._fetch_hook = backbone.register_forward_pre_hook(lambda module, args: self._fetch())

    def place(self, placement: Placement) -> None:
        """Record that all parameters, the bank's included, are now where `placement` says."""
        self.placement = placement
        self.base.place(placement)
        self._dtype = self.base.dtype

    # -- forward ----------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Split the bank once per forward pass; checkpoint recomputation reads the same pieces again."""
        self._pieces = {}  # so that the last forward pass's are not kept beside the new ones
        pieces = self.vectors.to(self._computed).split(self._sizes)
        self._pieces = dict(zip(self._touched, pieces, strict=False))

    @property
    def _computed(self) -> torch.dtype:
        """Dtype of the pieces."""
        # That of the weights now, which may compute in another one for a while; ZeRO 3 would gather one that is asked.
        return self._dtype if self.placement.sharded else self.base.dtype

    @abstractmethod
    def _forward_of(self, module: nn.Module, target: Target, index: Tensor) -> Callable[[Tensor], Tensor]:
        """A Linear's forward with its piece, the vectors at `index` (int64 [k], on the module's device)."""

    def _untouch(self) -> None:
        for module in self._touched.values():
            del module.forward  # that of the class is left
        self._touched = {}

    def _touch(self) -> None:
        self._untouch()
        sizes = []
        for target, part in self.table.by_target(self.ids):
            module = self._touched[target.module] = self.model.get_submodule(target.module)
            local = self.ids[part] - target.offset
            module.forward = self._forward_of(module, target, local.to(module.weight.device))
            sizes.append(len(local))
        self._sizes = [*sizes, self.n_vectors - sum(sizes)]  # the last piece is the spare rows

    # -- weights ----------------------------------------------------------------------------------------------------

    def weights(self) -> Callable[[str], Tensor]:
        """A reader of effective weights, base plus bank: of a target module's name, float32 [out features, in
        features], a copy. The bank is gathered once, here: the reader is for use before the next step.
        """
        deltas = self.placement.values(self.vectors)
        parts = {target.module: part for target, part in self.table.by_target(self.ids)}

        def read(module: str) -> Tensor:
            target = self.table.target_of[module]
            with self.base.vectors_of(target) as stored:
                vectors = stored.float().clone()
            if (part := parts.get(module)) is not None:
                local = (self.ids[part] - target.offset).to(vectors.device)
                vectors.index_add_(0, local, deltas[part].to(vectors.device))
            if target.axis == "entry":
                linear = self.model.get_submodule(module)
                return turned(vectors.view(linear.weight.shape), linear)
            return vectors if target.axis == "row" else vectors.T

        return read

    def changed(self) -> tuple[Tensor, Tensor]:
        """Every vector this run has changed, active ones included: (ids int64 [m], fp32 values [m, d_model])."""
        return self.base.changed(self.ledger, self.ids, self.placement.values(self.vectors))

    def merged_state_dict(self) -> dict[str, Tensor]:
        """The model's state dict without the bank, everything learned merged into the weights (in their dtype).

        Raises:
            ConfigError: the weights are sharded, so that no process has them all.
        """
        if self.placement.sharded:
            raise ConfigError(
                "the model's weights are sharded over processes and cannot be merged here; when the run is done, "
                "`foresight export RUN --to merged` does it in one process"
            )
        state = {k: v for k, v in self.model.state_dict().items() if not is_bank_key(k)}
        ids, values = self.changed()
        for target, part in self.table.by_target(ids):
            key, module = f"{target.module}.weight", self.model.get_submodule(target.module)
            state[key] = state[key].clone()
            write_vectors(state[key], module, target, ids[part] - target.offset, values[part])
        return state

    # -- re-mask ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def remask(
        self,
        mask: Mask | WeightMask,
        optimizer: BankAdamW | None = None,
        rollback: bool = False,
        n_vectors: int | None = None,
    ) -> tuple[int, int]:
        """Train `mask` from now on. To be called between optimizer steps.

        Where the bank is sharded, one matrix at a time is whole on a process: each moment, then the values, then, if
        the weights are sharded too, each touched weight. Leaving vectors wait for their weight on the CPU.

        Args:
            optimizer: the one that trains `vectors`; its state and ages are carried along.
            rollback: forget what was learned since construction instead of folding it in.
            n_vectors: new number of rows; by default unchanged.

        Returns:
            How many vectors entered, and how many of those before were still exactly zero after their training.

        Raises:
            MaskLeakError: something outside the mask changed since the last re-mask.
            ConfigError: the mask does not fit into the bank.
        """
        self.base.verify()
        rows = n_vectors or self.n_vectors
        new = torch.from_numpy(self.table.vector_ids(mask.components))
        if len(new) > rows:
            unit = self.table.unit
            raise ConfigError(f"mask has {len(new)} {unit}, the bank {rows}; select it with n_vectors={rows}")
        if rollback:
            self._forget()
        staying, leaving = torch.isin(new, self.ids), ~torch.isin(self.ids, new)
        target_rows, source_rows = staying.nonzero().flatten(), torch.searchsorted(self.ids, new[staying])
        known, remainders = self._remainders(new, ~staying)
        left, unmoved = torch.zeros(0, self.table.d_model), 0

        def carry(matrix: Tensor) -> Tensor:
            return _moved(matrix, source_rows, target_rows, rows)

        def carry_values(matrix: Tensor) -> Tensor:
            nonlocal left, unmoved
            active = matrix[: len(self.ids)]
            left, unmoved = active[leaving.to(matrix.device)].float().cpu(), _zero_rows(active)
            matrix = carry(matrix)
            matrix[known.to(matrix.device)] = remainders.to(matrix.device, matrix.dtype)
            return matrix

        self._pieces = {}  # the last forward's graph would remember the old shape
        if optimizer is not None:
            self.placement.change_state(self.vectors, optimizer, carry)
            optimizer.ages = carry(optimizer.ages)
        self.placement.change_values(self.vectors, carry_values)
        if leaving.any():
            ids = self.ids[leaving]
            self.ledger.record(ids, self.base.fold(ids, left))
        self.mask, self.ids, self.n_vectors = mask, new, rows
        self._touch()
        return int((~staying).sum()), unmoved

    @torch.no_grad()
    def restart(self, optimizer: BankAdamW) -> None:
        """Zero the moments and ages of all rows; their next step is a first one. Collective where they are sharded."""
        self.placement.change_state(self.vectors, optimizer, torch.zero_)
        optimizer.ages.zero_()

    def _remainders(self, ids: Tensor, entering: Tensor) -> tuple[Tensor, Tensor]:
        """Entering vectors that do not start at zero: (rows int64 [k], values [k, d_model]).

        They are those in the ledger: they start with what a bf16 base has lost of their recorded value.
        """
        found, values = self.ledger.find(ids)
        again, values = found & entering, values[entering[found]]
        return again.nonzero().flatten(), values - self.base.plus(ids[again], torch.zeros_like(values))

    def _forget(self) -> None:
        if len(self.ledger):
            raise ConfigError("only an unfolded bank can be rolled back; this one has folded vectors into the base")
        self.placement.change_values(self.vectors, torch.zero_)
        self.ids = torch.zeros(0, dtype=torch.int64)

    def unmoved(self) -> int:
        """Active vectors that are still exactly zero: none of their weights has been trained."""
        return _zero_rows(self.placement.values(self.vectors)[: len(self.ids)])

    # -- state ------------------------------------------------------------------------------------------------------

    def tensors(self, optimizer: BankAdamW) -> dict[str, Tensor]:
        """Everything needed to put bank, optimizer and base back, as named whole tensors on the CPU."""
        tensors = {
            "bank.vectors": _on_cpu(self.placement.values(self.vectors)),
            "bank.ids": _on_cpu(self.ids),
            "ledger.ids": _on_cpu(self.ledger.ids),
            "ledger.values": _on_cpu(self.ledger.values),
            "optimizer.ages": _on_cpu(optimizer.ages),
        }
        for key, value in self.placement.state(self.vectors, optimizer):
            tensors[f"optimizer.{key}"] = _on_cpu(value)
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], mask: Mask | WeightMask, optimizer: BankAdamW) -> None:
        """Undo of `tensors()` on a freshly loaded base: writes the ledger into it, refills bank and optimizer. Raises
        CheckpointError for shapes or ids that do not fit this model and mask.
        """
        if missing := {"bank.vectors", "bank.ids", "ledger.ids", "ledger.values", "optimizer.ages"} - tensors.keys():
            raise CheckpointError(f"the checkpoint lacks {', '.join(sorted(missing))}")
        vectors, ids = tensors["bank.vectors"], torch.from_numpy(self.table.vector_ids(mask.components))
        recorded, values = tensors["ledger.ids"], tensors["ledger.values"]
        d_model, n = self.table.d_model, self.table.n_vectors
        if vectors.shape[1:] != (d_model,) or len(ids) > len(vectors) or not torch.equal(ids, tensors["bank.ids"]):
            raise CheckpointError(
                f"bank of shape {tuple(vectors.shape)} does not hold its mask of {len(ids)} vectors of {d_model}"
            )
        if values.shape != (len(recorded), d_model) or not ((recorded >= 0) & (recorded < n)).all():
            raise CheckpointError(f"ledger of {len(recorded)} ids and values {tuple(values.shape)} does not fit")
        self.ledger = Ledger(d_model)
        self.ledger.record(recorded, values)
        self.base.write(recorded, values)
        self.placement.change_values(self.vectors, lambda old: vectors.to(old.device, old.dtype))
        state = {k.removeprefix("optimizer."): v for k, v in tensors.items() if k.startswith("optimizer.")}
        optimizer.ages = state.pop("ages").to(optimizer.ages.device)
        optimizer.pending = state
        self.mask, self.ids, self.n_vectors = mask, ids, len(vectors)
        self._touch()

    def detach(self) -> None:
        """Remove the bank and its hooks from the model; what was not folded is dropped."""
        self._untouch()
        self._fetch_hook.remove()
        delattr(self.model.get_submodule(tower_of(self.model)), BANK_NAME)


def _moved(matrix: Tensor, source: Tensor, target: Tensor, rows: int) -> Tensor:
    """Row source[i] becomes row target[i], all others zero: in place, unless the number of rows changes.

    Works through stretches of columns, so that it needs only a sixteenth of the matrix in extra memory.

    Args:
        matrix: [n, d] or [n].
        source, target: int64 [k], without repeats.
        rows: of the result.
    """
    if rows > len(matrix):
        matrix = torch.cat([matrix, matrix.new_zeros(rows - len(matrix), *matrix.shape[1:])])
    source, target = source.to(matrix.device), target.to(matrix.device)
    for part in matrix.chunk(CHUNKS, dim=-1) if matrix.dim() > 1 else (matrix,):
        kept = part[source]
        part.zero_()
        part[target] = kept
    return matrix if rows == len(matrix) else matrix[:rows].clone()


def _zero_rows(matrix: Tensor) -> int:
    return int((torch.linalg.vector_norm(matrix, float("inf"), dim=-1) == 0).sum())


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
