"""A model in which a single edge carries part of the corrupted output: what an edge score is the derivative of."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import torch

from foresight.model.components import component_table
from foresight.scoring.edge_graph import edge_graph


@contextmanager
def hooked(*hooks):
    """Register hooks, each (module, function, whether before the forward)."""
    with ExitStack() as stack:
        for module, hook, before in hooks:
            place = module.register_forward_pre_hook if before else module.register_forward_hook
            stack.callback(place(hook).remove)
        yield


class OneEdge:
    """The logit difference of a model when a single edge carries `share` of the change to the corrupted output."""

    def __init__(self, model, batch):
        self.model, self.batch, self.graph = model.double(), batch, edge_graph(model, component_table(model))
        self.clean, self.corrupted = (self.seen(ids) for ids in (batch.input_ids, batch.corrupted_ids))

    @torch.no_grad()
    def run(self, ids):
        logits = self.model(input_ids=ids, attention_mask=self.batch.attention_mask).logits
        at = self.batch.attention_mask.sum(1) - 1
        rows = torch.arange(len(ids))
        last, answer = logits[rows, at], self.batch.targets[rows, at]
        return (last[rows, answer] - last[rows, self.batch.wrong]).mean().item()

    def seen(self, ids):
        inputs = {}

        def keep(module, args):
            inputs[module] = args[0]

        modules = [self.model.get_submodule(w.module) for w in self.graph.writers]
        modules.append(self.model.get_submodule(self.graph.readers[0].norm))
        with hooked(*((module, keep, True) for module in modules)):
            self.run(ids)
        return inputs

    def moved(self, source, share):
        """Change of what a source adds to the residual stream."""
        if source == "input":
            norm = self.model.get_submodule(self.graph.readers[0].norm)
            return share * (self.corrupted[norm] - self.clean[norm])
        for writer in self.graph.writers:
            for span in writer.sources:
                if self.graph.names[span.node] == source:
                    module = self.model.get_submodule(writer.module)
                    clean, mixed = self.clean[module], self.clean[module].clone()
                    mine = slice(span.start, span.stop)
                    mixed[..., mine] += share * (self.corrupted[module] - clean)[..., mine]
                    post = self.model.get_submodule(writer.post_norm) if writer.post_norm else lambda x: x
                    return post(module(mixed)) - post(module(clean))
        raise AssertionError(source)

    @torch.no_grad()
    def metric(self, source, destination, role, share):
        change, inputs = self.moved(source, share), {}
        me = (self.graph.names.index(destination), role)
        pairs = ((r, p) for r in self.graph.readers for p in r.destinations)
        reader, part = next((r, p) for r, p in pairs if (p.node, p.role) == me)
        norm = self.model.get_submodule(reader.norm)
        if part.module == reader.norm:
            with hooked((norm, lambda module, args: (args[0] + change, *args[1:]), True)):
                return self.run(self.batch.input_ids)

        def keep(module, args):
            inputs["stream"] = args[0]

        def replace(module, args, output):
            other = module.forward(norm.forward(inputs["stream"] + change))
            output = output.clone()
            output[..., part.start : part.stop] = other[..., part.start : part.stop]
            return output

        with hooked((norm, keep, True), (self.model.get_submodule(part.module), replace, False)):
            return self.run(self.batch.input_ids)

    def drop(self, edge, eps=0.02):
        """Minus the derivative of the metric towards the corrupted output, by extrapolated central differences.

        The steps are large, as norms and softmax compute in float32 even in a float64 model.
        """
        once, twice = ((self.metric(*edge, -e) - self.metric(*edge, e)) / (2 * e) for e in (eps, 2 * eps))
        return (4 * once - twice) / 3
