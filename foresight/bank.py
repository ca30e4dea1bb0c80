"""The bank: the one trainable parameter, budget-many vectors added to the frozen vectors that the mask names.

Row vectors (query/key/value/gate/up) are added to a Linear's outputs, column vectors (output and down projections)
read its inputs; both by plain forward hooks on the touched Linears, so untouched ones take the plain path. Rows of the
bank are in the order of vector ids, hence target by target: one `split` a forward hands every hook its piece.

Re-masking folds leaving vectors into the base (recorded in fp32 in the `Ledger`), keeps value and Adam state of those
that stay, and starts entering ones with fresh moments and age. Biases, norms and embeddings are never trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .components import ComponentTable, Target, stored_transposed
from .errors import CheckpointError, ConfigError, MaskLeakError
from .fingerprint import BANK_NAME, digest, fingerprint, is_bank_key
from .ledger import Ledger
from .masks import Mask
from .optimizer import BankAdamW
from .placement import Placement


@dataclass(frozen=True)
class Remask:
    """What a re-mask did, in vectors."""

    stayed: int
    entered: int
    left: int


class Bank(nn.Module):
    """Trainable vectors of one model, attached to it on construction.

    Args:
        model: a stock Hugging Face causal LM with fp32 or bf16 weights. All its parameters are frozen.
        table: its components.
        n_vectors: rows of the bank, at least as many as any mask will need. Rows that a mask leaves over are spare:
            they belong to the budget, have no effect and get no gradient.

    Attributes:
        vectors: float32 Parameter [n_vectors, d_model], the differences to the base, whatever the base's dtype.
        ids: int64 [n_active], sorted vector ids (see `ComponentTable.vector_ids`) of rows 0..n_active-1.
        mask: the `Mask` in force.
        ledger: the `Ledger`.
        base_hash: hex digest of all weights as they were before any training.
        placement: where parameters are; set it to another one once they have been sharded (`place`).

    Raises:
        ConfigError: a target is neither fp32 nor bf16, or the model has a bank already.
    """

    def __init__(self, model: nn.Module, table: ComponentTable, n_vectors: int, placement: Placement | None = None):
        super().__init__()
        self.placement = placement or Placement()
        backbone = model.base_model
        if hasattr(backbone, BANK_NAME):
            raise ConfigError("this model has a bank already; call detach() on it first, or load the model afresh")
        for target in table.targets:
            dtype = model.get_submodule(target.module).weight.dtype
            if dtype not in (torch.float32, torch.bfloat16):
                raise ConfigError(f"{target.module} has dtype {dtype}; expected float32 or bfloat16 weights")
        self.table = table
        self.mask = Mask(())
        self.ids = torch.zeros(0, dtype=torch.int64)
        self.ledger = Ledger(table.d_model)
        # Not registered as a submodule: the model owns the bank, not the other way round.
        object.__setattr__(self, "model", model)
        model.requires_grad_(False)
        weight = model.get_submodule(table.targets[0].module).weight
        self.n_vectors = n_vectors
        self.vectors = nn.Parameter(torch.zeros(n_vectors, table.d_model, device=weight.device))
        self._dtype = weight.dtype
        self._pieces: dict[str, Tensor] = {}
        self._hooks: dict[str, torch.utils.hooks.RemovableHandle] = {}
        self._place_hooks()
        self._fingerprint = fingerprint(model, self.placement)
        self.base_hash = digest(self._fingerprint, self.placement)
        backbone.add_module(BANK_NAME, self)
        self._fetch_hook = backbone.register_forward_pre_hook(lambda module, args: self._fetch())

    # -- forward ----------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Split the bank once a forward; checkpoint recomputation reads the same pieces again."""
        pieces = self.vectors.to(self._dtype).split(self._sizes)
        self._pieces = dict(zip(self._hooks, pieces, strict=False))

    def _touched(self, ids: Tensor) -> Iterator[tuple[Target, Tensor]]:
        """Yield (target, local indices int64 [k]) for every target with vectors among the sorted `ids`."""
        bounds = torch.tensor([t.offset for t in self.table.targets] + [self.table.n_vectors])
        cuts = torch.searchsorted(ids, bounds).tolist()
        for target, low, high in zip(self.table.targets, cuts[:-1], cuts[1:], strict=True):
            if high > low:
                yield target, ids[low:high] - target.offset

    def _hook(self, target: Target, index: Tensor) -> Callable:
        def add_rows(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            piece = self._pieces[target.module]
            return output.index_add(-1, index, F.linear(args[0], piece).to(output.dtype))

        def add_columns(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            piece = self._pieces[target.module]
            return output + (args[0].index_select(-1, index) @ piece).to(output.dtype)

        return add_rows if target.axis == "row" else add_columns

    def _place_hooks(self) -> None:
        for handle in self._hooks.values():
            handle.remove()
        self._hooks, sizes = {}, []
        for target, local in self._touched(self.ids):
            module = self.model.get_submodule(target.module)
            hook = self._hook(target, local.to(module.weight.device))
            self._hooks[target.module] = module.register_forward_hook(hook)
            sizes.append(len(local))
        self._sizes = [*sizes, self.n_vectors - sum(sizes)]  # the last piece is the spare rows

    # -- weights ----------------------------------------------------------------------------------------------------

    def place(self, placement: Placement) -> None:
        """Take note that all parameters, the bank's included, are now where `placement` says."""
        self.placement = placement
        self._dtype = self.model.get_submodule(self.table.targets[0].module).weight.dtype
        self._fingerprint = fingerprint(self.model, placement)

    @contextmanager
    def _vectors_of(self, target: Target, write: bool = False) -> Iterator[Tensor]:
        """The stored weight with this target's vectors as rows: a view [n, d_model] in the weight's dtype."""
        module = self.model.get_submodule(target.module)
        with self.placement.whole(module.weight, write) as weight:
            yield weight if _rows_first(module, target.axis) else weight.T

    def weight_of(self, module: str) -> Tensor:
        """Effective weight of a target, base plus bank: float32 [out features, in features], a copy."""
        target = self.table.target_of[module]
        with self._vectors_of(target) as stored:
            vectors = stored.float().clone()
        inside = (self.ids >= target.offset) & (self.ids < target.offset + target.n)
        local = (self.ids[inside] - target.offset).to(vectors.device)
        deltas = self.placement.values(self.vectors)
        vectors.index_add_(0, local, deltas[inside.nonzero().flatten().to(deltas.device)].to(vectors.device))
        return vectors if target.axis == "row" else vectors.T

    def changed(self) -> tuple[Tensor, Tensor]:
        """Every vector this run has changed, active ones included: (ids int64 [m], fp32 values [m, d_model])."""
        record = Ledger(self.table.d_model)
        record.record(self.ledger.ids, self.ledger.values)
        record.record(self.ids, self._effective(self.ids, self.placement.values(self.vectors)[: len(self.ids)]))
        return record.ids, record.values

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
        for target, local in self._touched(ids):
            key = f"{target.module}.weight"
            state[key] = state[key].clone()
            rows = torch.isin(ids, local + target.offset)
            write_vectors(state[key], self.model.get_submodule(target.module), target.axis, local, values[rows])
        return state

    def _effective(self, ids: Tensor, deltas: Tensor) -> Tensor:
        """fp32 values [k, d_model] on the CPU of base + deltas, for sorted ids [k]."""
        parts, done = [torch.zeros(0, self.table.d_model)], 0
        for target, local in self._touched(ids):
            with self._vectors_of(target) as weight:
                base = weight[local.to(weight.device)].float()
            parts.append((base + deltas[done : done + len(local)].to(base.device)).cpu())
            done += len(local)
        return torch.cat(parts)

    def _write(self, ids: Tensor, values: Tensor) -> None:
        """Set base vectors (sorted ids [k]) to fp32 values [k, d_model], rounded to the base's dtype."""
        done = 0
        for target, local in self._touched(ids):
            with self._vectors_of(target, write=True) as weight:
                weight[local.to(weight.device)] = values[done : done + len(local)].to(weight.device, weight.dtype)
            done += len(local)
            name = f"{target.module}.weight"
            self._fingerprint[name] = self.placement.checksum(self.model.get_parameter(name))

    # -- re-mask ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def remask(
        self,
        mask: Mask,
        optimizer: BankAdamW | None = None,
        restart: bool = False,
        rollback: bool = False,
        n_vectors: int | None = None,
    ) -> Remask:
        """Train `mask` from now on. To be called between optimizer steps.

        Args:
            optimizer: the one that trains `vectors`; its state and ages are carried along.
            restart: give all rows fresh optimizer state, also those that stay.
            rollback: forget what was learned since construction instead of folding it in.
            n_vectors: new number of rows; by default unchanged.

        Raises:
            MaskLeakError: something outside the mask changed since the last re-mask.
            ConfigError: the mask does not fit into the bank.
        """
        self.verify()
        rows = n_vectors or self.n_vectors
        new = torch.from_numpy(self.table.vector_ids(mask.components))
        if len(new) > rows:
            raise ConfigError(f"mask has {len(new)} vectors, the bank {rows}; select it with n_vectors={rows}")
        if rollback:
            self._forget()
        leaving = ~torch.isin(self.ids, new)
        if leaving.any():
            left = self.ids[leaving]
            deltas = self.placement.values(self.vectors)
            values = self._effective(left, deltas[: len(self.ids)][leaving.to(deltas.device)])
            del deltas
            self._write(left, values)
            self.ledger.record(left, values)
        staying = torch.isin(new, self.ids)
        target_rows, source_rows = staying.nonzero().flatten(), torch.searchsorted(self.ids, new[staying])
        entering = (~staying).nonzero().flatten()
        start = self._remainders(new[entering])

        def carry(old: Tensor) -> Tensor:
            moved = old.new_zeros(rows, *old.shape[1:])
            moved[target_rows.to(old.device)] = old[source_rows.to(old.device)]
            return moved

        def carry_values(old: Tensor) -> Tensor:
            moved = carry(old)
            moved[entering.to(old.device)] = start.to(old.device, old.dtype)
            return moved

        def clear(old: Tensor) -> Tensor:
            return old.new_zeros(rows, *old.shape[1:])

        self._pieces = {}  # the last forward's graph would remember the old shape
        if optimizer is not None:
            change = clear if restart else carry
            self.placement.change_state(self.vectors, optimizer, change)
            optimizer.ages = change(optimizer.ages)
        self.placement.change_values(self.vectors, carry_values)
        result = Remask(int(staying.sum()), len(entering), int(leaving.sum()))
        self.mask, self.ids, self.n_vectors = mask, new, rows
        self._place_hooks()
        return result

    def _remainders(self, ids: Tensor) -> Tensor:
        """Where entering vectors start [k, d_model]: zero, or what a bf16 base has lost of their recorded value."""
        start = torch.zeros(len(ids), self.table.d_model)
        known, values = self.ledger.find(ids)
        if known.any():
            start[known] = values - self._effective(ids[known], torch.zeros_like(values))
        return start

    def _forget(self) -> None:
        if len(self.ledger):
            raise ConfigError("only an unfolded bank can be rolled back; this one has folded vectors into the base")
        self.placement.change_values(self.vectors, torch.zeros_like)
        self.ids = torch.zeros(0, dtype=torch.int64)

    # -- invariants -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def verify(self) -> None:
        """Check that no frozen weight has changed by one bit since the last fold; one pass over the weights.

        Raises:
            MaskLeakError: names the tensor that changed.
        """
        for name, found in fingerprint(self.model, self.placement).items():
            if found != self._fingerprint[name]:
                raise MaskLeakError(
                    f"{name} changed although it is frozen and only the bank is trained. Something else writes to the "
                    "weights (another optimizer, a callback, weight tying); the run is stopped because its mask would "
                    "mean nothing. Resume from the last checkpoint without it."
                )

    def unmoved(self) -> int:
        """Active vectors that are still exactly zero: none of their weights has been trained."""
        return int((self.placement.values(self.vectors)[: len(self.ids)] == 0).all(-1).sum())

    # -- state ------------------------------------------------------------------------------------------------------

    def tensors(self, optimizer: BankAdamW) -> dict[str, Tensor]:
        """Everything needed to put bank, optimizer and base back, as named whole tensors on the CPU."""
        state = self.placement.state(self.vectors, optimizer)
        tensors = {
            "bank.vectors": self.placement.values(self.vectors),
            "bank.ids": self.ids,
            "ledger.ids": self.ledger.ids,
            "ledger.values": self.ledger.values,
            "optimizer.ages": optimizer.ages,
            **{f"optimizer.{key}": value for key, value in state.items()},
        }
        return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], mask: Mask, optimizer: BankAdamW) -> None:
        """Undo of `tensors()` on a freshly loaded base: writes the ledger into it, refills bank and optimizer.

        Raises:
            CheckpointError: shapes or ids do not fit this model and mask.
        """
        missing = {"bank.vectors", "bank.ids", "ledger.ids", "ledger.values", "optimizer.ages"} - tensors.keys()
        if missing:
            raise CheckpointError(f"the checkpoint lacks {', '.join(sorted(missing))}")
        vectors, ids = tensors["bank.vectors"], torch.from_numpy(self.table.vector_ids(mask.components))
        recorded, values = tensors["ledger.ids"], tensors["ledger.values"]
        d_model = self.table.d_model
        if vectors.shape[1:] != (d_model,) or len(ids) > len(vectors) or not torch.equal(ids, tensors["bank.ids"]):
            raise CheckpointError(
                f"bank of shape {tuple(vectors.shape)} does not hold its mask of {len(ids)} vectors of {d_model}"
            )
        in_range = len(recorded) == 0 or (recorded.min() >= 0 and recorded.max() < self.table.n_vectors)
        if values.shape != (len(recorded), d_model) or not in_range:
            raise CheckpointError(f"ledger of {len(recorded)} ids and values {tuple(values.shape)} does not fit")
        self.ledger = Ledger(d_model)
        self.ledger.record(recorded, values)
        self._write(recorded, values)
        self.placement.change_values(self.vectors, lambda old: vectors.to(old.device, old.dtype))
        state = {k.removeprefix("optimizer."): v for k, v in tensors.items() if k.startswith("optimizer.")}
        optimizer.ages = state.pop("ages").to(optimizer.ages.device)
        optimizer.pending = state
        self.mask, self.ids, self.n_vectors = mask, ids, len(vectors)
        self._place_hooks()

    def detach(self) -> None:
        """Remove the bank and its hooks from the model; what was not folded is dropped."""
        for handle in (*self._hooks.values(), self._fetch_hook):
            handle.remove()
        delattr(self.model.base_model, BANK_NAME)


def write_vectors(weight: Tensor, module: nn.Module, axis: str, index: Tensor, values: Tensor) -> None:
    """Set rows or columns `index` of a stored weight (Linear or Conv1D) to fp32 values [k, d_model], in place."""
    view = weight if _rows_first(module, axis) else weight.T
    view[index.to(weight.device)] = values.to(weight.device, weight.dtype)


def _rows_first(module: nn.Module, axis: str) -> bool:
    """Whether the stored weight has the d_model-vectors along `axis` as its rows."""
    return stored_transposed(module) == (axis == "column")
