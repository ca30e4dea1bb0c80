"""Rows that cannot mean what their user thinks: each is refused with file and row, or is understood as it is meant."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .acts import NEVER
from .case import Case, Verdict, judged, typed
from .ground import Ground, emptied, read_rows
from .jobs import train_words
from .leaves import leaves
from .warm import await_all, child, foresight

LIMIT = 120.0
"""Seconds within which rows are refused, on a busy machine."""
Row = dict[str, Any]
AT = 5
"""The row that is bad, counted from 0; its line in the file is one more."""
CHAT: dict[str, Any] = {"policy": "static", "max_steps": 2, "save_strategy": "no", "save_steps": None, "task": None,
                        "task_examples": None, "task_eval_examples": None, "task_contrast_examples": None,
                        "remask_every": None}  # fmt: skip
_LINE = f"row {AT} | line {AT + 1}"


@dataclass(frozen=True)
class Bad:
    """A table that is not what a run needs.

    Attributes:
        make: the content of the file, from good rows of prompt and completion.
        names: what a refusal has to hold besides the file's name.
        same: rows that say the same in the usual form: if these are understood, equal bits are right.
        file: its name; role: which setting names it.
    """

    title: str
    make: Callable[[list[Row]], bytes | str | Sequence[Any]]
    names: str = ""
    same: Callable[[list[Row]], list[Row]] | None = None
    file: str = "rows.jsonl"
    role: str = "dataset"
    settings: tuple[tuple[str, Any], ...] = ()


def _row(**values: Any) -> Callable[[list[Row]], list[Row]]:
    """Good rows, one of which has other values; None as a string means without the column."""
    return lambda rows: [*rows[:AT], {**rows[AT], **values}, *rows[AT + 1 :]]


def _lines(line: str) -> Callable[[list[Row]], str]:
    """Good lines, one of which is another text."""

    def made(rows: list[Row]) -> str:
        lines = [json.dumps(row) for row in rows]
        return "\n".join([*lines[:AT], line, *lines[AT + 1 :]]) + "\n"

    return made


def talk(row: Row) -> list[Row]:
    """A row as a conversation."""
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]


def _talks(bad: Callable[[Row], Any], column: str = "messages") -> Callable[[list[Row]], list[Row]]:
    """Conversations, one of which is bad."""
    return lambda rows: [{column: bad(row) if i == AT else talk(row)} for i, row in enumerate(rows)]


def _each(form: Callable[[Row], Row]) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [form(row) for row in rows]


def _chat(title: str, bad: Callable[[Row], Any], names: str = _LINE) -> Bad:
    return Bad(title, _talks(bad), names)


def _pairs(title: str, names: str, **values: Any) -> Bad:
    return Bad(title, _row(**values), names, file="pairs.jsonl", role="contrast")


def _spoken(row: Row) -> Row:
    names = {"user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in talk(row)]}


def _in_parts(row: Row) -> Row:
    return {"messages": [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in talk(row)]}


_MESSAGES = _each(lambda row: {"messages": talk(row)})
_UNKNOWN = "zyzzyva quokka axolotl"
BAD: tuple[Bad, ...] = (
    Bad("an empty file", lambda rows: ""),
    Bad("blank lines only", lambda rows: "\n\n\n"),
    Bad("an empty list", lambda rows: "[]", file="rows.json"),
    Bad("a broken line", _lines('{"prompt": "a", "comp'), f"line {AT + 1} | row {AT}"),
    Bad("a line that is a list", _lines('["a", "b"]'), f"line {AT + 1} | row {AT}"),
    Bad("a line that is a number", _lines("7"), f"line {AT + 1} | row {AT}"),
    Bad("no JSON at all", lambda rows: "prompt and completion\n" * 9, "line 1 | row 0"),
    Bad("latin-1", lambda rows: json.dumps({"prompt": "é", "completion": "é"}, ensure_ascii=False).encode("latin-1"),
        "UTF-8 | utf-8 | utf8 | encod"),
    Bad("bytes of nothing", lambda rows: bytes(range(256)) * 4),
    Bad("a parquet file that is none", lambda rows: b"PAR1 no PAR1", file="rows.parquet"),
    Bad("a table without columns of ours", _each(lambda row: {"question": row["prompt"], "answer": row["completion"]}),
        "question"),
    Bad("no completion column", _each(lambda row: {"prompt": row["prompt"]}), "completion"),
    Bad("a misspelt column", _each(lambda row: {"prompt": row["prompt"], "answr": row["completion"]}), "completion"),
    Bad("a null completion", _row(completion=None), _LINE),
    Bad("an empty completion", _row(completion=""), _LINE),
    Bad("a null prompt", _row(prompt=None), _LINE),
    Bad("numbers as completions", _each(lambda row: {**row, "completion": 7}), "row 0"),
    Bad("a list as a completion", _each(lambda row: {**row, "completion": ["a"]}), "row 0"),
    Bad("true as completions", _each(lambda row: {**row, "completion": True}), "row 0"),
    Bad("a CSV row with more cells", lambda rows: "prompt,completion\na,b\nc,d,e\n", "line 3 | row 1", file="rows.csv"),
    Bad("a CSV without a header", lambda rows: "".join(f"{i},{i + 1}\n" for i in range(9)), "column", file="rows.csv"),
    Bad("unknown words", _each(lambda row: {"prompt": _UNKNOWN, "completion": _UNKNOWN}), "unknown"),
    Bad("answers beyond max_length", _each(lambda row: {**row, "prompt": row["prompt"] * 8}), "max_length",
        settings=(("max_length", 8),)),
    Bad("fewer rows than a batch", lambda rows: rows[:2], "batch | drop_last",
        settings=(("dataloader_drop_last", "true"),)),
    _chat("a string instead of messages", lambda row: row["prompt"]),
    _chat("an empty conversation", lambda row: []),
    _chat("no assistant turn", lambda row: talk(row)[:1]),
    _chat("null content", lambda row: [talk(row)[0], {"role": "assistant", "content": None}]),
    _chat("a message without role", lambda row: [{"content": row["prompt"]}, talk(row)[1]]),
    _chat("an unknown role", lambda row: [talk(row)[0], {"role": "asistant", "content": row["completion"]}]),
    _chat("a picture", lambda row: [{"role": "user", "content": [{"type": "image", "text": "x"}]}, talk(row)[1]]),
    Bad("from and value", _each(_spoken), "row 0", _MESSAGES),
    Bad("content in parts", _each(_in_parts), "row 0", _MESSAGES),
    Bad("tool calls that the template drops",
        _talks(lambda row: [talk(row)[0], {"role": "assistant", "content": "", "tool_calls": [
            {"type": "function", "function": {"name": "look", "arguments": "{}"}}]}, talk(row)[1]]), _LINE),
    Bad("instructions", _each(lambda row: {"instruction": row["prompt"], "input": "", "output": row["completion"]}),
        "row 0",
        _each(lambda row: {"prompt": [talk(row)[0]], "completion": [talk(row)[1]]})),
    _pairs("pairs of unequal length", f"pair {AT} | {_LINE}", corrupted="the the the the the the the the the the the"),
    _pairs("pairs with equal answers", f"pair {AT} | {_LINE}", answer=" he", wrong_answer=" he"),
    _pairs("pairs with a null", f"pair {AT} | {_LINE}", clean=None),
    Bad("pairs without answers", _each(lambda row: {"clean": row["clean"], "corrupted": row["corrupted"]}), "answer",
        file="pairs.jsonl", role="contrast"),
    Bad("retained rows without a column", _each(lambda row: {"words": row["prompt"]}), "words", file="kept.jsonl",
        role="retained", settings=(("replay_share", 0.25),)),
)  # fmt: skip
"""Forty of them."""
SHORT = ("a broken line", "a null completion", "no assistant turn")


def cases(seed: int, short: bool) -> list[Case]:
    """One per table."""
    return [Case("rows", bad.title, seed) for bad in BAD if not short or bad.title in SHORT]


def attempt(case: Case, ground: Ground) -> Verdict:
    """Train on a malformed table, and judge what comes of it."""
    bad = next(one for one in BAD if one.title == case.name)
    work = ground.cases / case.folder
    emptied(work)
    good = read_rows({"contrast": ground.pairs, "retained": ground.kept}.get(bad.role, ground.rows))
    write(work / bad.file, bad.make(good))
    words = _words(ground, work, bad, work / bad.file, work / "out")
    log = work / "log.txt"
    ended = await_all([child(lambda: foresight(words, log, NEVER, None), log)], LIMIT, log)[0]
    expected = found = None
    if bad.same is not None and ended.code == 0:
        write(work / "same" / bad.file, bad.same(good))
        usual = _words(ground, work, bad, work / "same" / bad.file, work / "usual")
        await_all([child(lambda: foresight(usual, log, NEVER, None), work / "usual.txt")], LIMIT, work / "usual.txt")
        expected, found = (
            leaves(work / "usual", ("delta/*.safetensors",)),
            leaves(work / "out", ("delta/*.safetensors",)),
        )
    group = f"{bad.file} | training rows | the training dataset" + (f" + {bad.names}" if bad.names else "")
    if bad.role == "contrast":
        group = f"{bad.file} | contrast pair" + f" + {bad.names}"
    outcome, said = judged(ended, [group], expected or None, found)
    return Verdict(outcome, said, f"{bad.role}: {bad.title}", (typed(words),))


def write(path: Path, content: bytes | str | Sequence[Any]) -> None:
    """Write a table: bytes and text as they are, rows as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
        path.write_text(text)


def _words(ground: Ground, work: Path, bad: Bad, table: Path, out: Path) -> list[str]:
    places = {"dataset": ground.rows, bad.role: table}
    return train_words(ground, out, **{**CHAT, "model": ground.chat, **places, **dict(bad.settings)})
