"""Conversations in rows: other people's names for them, what each must have, and what a chat template drops.

A row is a conversation if its column messages, or its columns prompt and completion, hold lists of messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from ..common.errors import ConfigError, DataError, did_you_mean
from .seen import LOOKED_AT, spaced

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "function_response": "tool"}
"""Roles of ShareGPT rows, and what chat templates call them."""
_KNOWN = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
_COLUMNS = ("messages", "prompt", "completion")
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


def as_conversations(table: Dataset, source: str) -> Dataset:
    """Return a table whose conversations have messages with role and content, as chat templates expect them.

    ShareGPT's column conversations, with from and value, is renamed, and so are its roles; content in parts of plain
    text is joined. A table without conversations is returned as it is.

    Raises:
        DataError: the first row with a message that cannot be used, or without an assistant's turn; says why.
    """
    if "conversations" in table.column_names and "messages" not in table.column_names:
        table = table.rename_column("conversations", "messages")
    columns = [name for name in _COLUMNS if name in table.column_names and not _all_text(table, name)]
    if not columns:
        return table
    changed = False
    for i, row in enumerate(table):
        given = {name: row[name] for name in columns}
        messages = [message for name in columns for message in _listed(given[name], source, i, name)]
        plain = [_plain(message) for message in messages]
        if reason := _fault(plain):
            raise DataError(f"{source}: row {i} {reason}; the row is {str(given):.300}")
        changed |= plain != messages
    if not changed:
        return table

    def rename(row: dict[str, Any]) -> dict[str, Any]:
        return {name: [_plain(message) for message in row[name]] for name in columns}

    return table.map(rename, desc="Reading conversations")


def refuse_dropped(
    rows: Any, tokenizer: PreTrainedTokenizerBase, template: str | None = None, source: str = "the training dataset"
) -> None:
    """Check that the chat template shows the model everything that conversations say; a sample of them is rendered.

    Thoughts between <think> tags are left out of the comparison, as templates drop those of earlier turns on purpose.

    Args:
        rows: a table of raw rows; what is not a conversation is passed over.
        template: used instead of the tokenizer's.

    Raises:
        ConfigError: there is no template.
        DataError: names the first row of which something is dropped, or which the template refuses.
    """
    for i in spaced(len(rows), LOOKED_AT):
        row = rows[i]
        messages = [message for name in _COLUMNS for message in _messages(row.get(name))]
        if not messages:
            continue
        if not (template or tokenizer.chat_template):
            raise ConfigError(
                f"{source} has conversations, and the tokenizer has no chat template; set chat_template_path to one "
                "(a .jinja file, or a model that has one), or give rows with prompt and completion as text"
            )
        tools = row.get("tools")
        try:
            shown = tokenizer.apply_chat_template(
                messages, tools=json.loads(tools) if isinstance(tools, str) else tools, chat_template=template,
                tokenize=False, **(row.get("chat_template_kwargs") or {}),
            )  # fmt: skip
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            raise DataError(f"{source}: the chat template refuses row {i} ({error}); the row is {messages}") from error
        if missing := _missing(messages, str(shown)):
            raise DataError(
                f"{source}: the chat template drops {missing} of row {i}, so the model would never see it. Remove it "
                f"from the rows, or set chat_template_path to a template that shows it; the row is {messages}"
            )


def _all_text(table: Dataset, name: str) -> bool:
    return getattr(table.features[name], "dtype", "") in ("string", "large_string")


def _listed(value: Any, source: str, i: int, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(
            f"{source}: row {i} has {value!r:.80} in column {name!r}; expected text, or a list of messages such as "
            '{"role": "user", "content": "..."}'
        )
    return value


def _messages(value: Any) -> list[dict[str, Any]]:
    """The messages of a cell, without the keys that Arrow fills with None; none of a cell that is text."""
    if not isinstance(value, list):
        return []
    return [{key: one for key, one in message.items() if one is not None} for message in value]


def _plain(message: Any) -> Any:
    """A message with role and content under those names, and text in place of parts that are all text."""
    if not isinstance(message, Mapping):
        return message
    found = dict(message)
    for old, new in (("from", "role"), ("value", "content")):
        if old in found and found.get(new) is None:
            found[new] = found.pop(old)
    role, content = found.get("role"), found.get("content")
    if isinstance(role, str):
        found["role"] = _ROLES.get(role, role)
    if isinstance(content, list) and content and all(_is_text(part) for part in content):
        found["content"] = "".join(part["text"] for part in content)
    return found


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)


def _fault(messages: list[Any]) -> str | None:
    """Why messages cannot be trained on, None if they can."""
    if not messages:
        return "is an empty conversation"
    for turn, message in enumerate(messages):
        if not isinstance(message, Mapping):
            return f"has {message!r:.80} as message {turn}; expected a mapping with role and content"
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str):
            return f"has a message {turn} without a role: it has {', '.join(message)}"
        if role not in _KNOWN:
            return f"has a message {turn} of role {role!r}{did_you_mean(role, _KNOWN)}; known: {', '.join(_KNOWN)}"
        if isinstance(content, list):
            return f"has parts other than text in message {turn}; only text is trained on"
        if not content and not message.get("tool_calls"):
            return f"has a message {turn} ({role}) without content"
        if content is not None and not isinstance(content, str):
            return f"has {content!r:.80} as content of message {turn}; expected text"
    if not any(message["role"] == "assistant" for message in messages):
        return "has no assistant turn, so there is nothing to learn from it"
    return None


def _missing(messages: list[dict[str, Any]], shown: str) -> str | None:
    """What of messages is not in the rendered text."""
    for turn, message in enumerate(messages):
        content = _THOUGHT.sub("", message.get("content") or "").strip()
        if content not in shown:
            return f"message {turn} ({message['role']})"
        for call in message.get("tool_calls") or []:
            name = (call.get("function") or call).get("name", "")
            if name not in shown:
                return f"the call of tool {name!r} in message {turn}"
    return None
