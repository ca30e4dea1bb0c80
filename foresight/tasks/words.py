"""Word lists shared by the tasks, and the test whether a tokenizer knows a word as one token.

Lists are longer than needed: `known` keeps what a tokenizer can spell with a single token after a space.
"""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase


def listed(text: str) -> tuple[str, ...]:
    """The words of `text`, as a tuple."""
    return tuple(text.split())


ANCHOR = "a"

WOMEN = listed("Mary Anna Lucy Jane Sarah Kate Emma Rose Lily Laura Alice Helen Julia Susan Karen Linda Maria Nancy")
MEN = listed(
    "John Paul Mark Luke Adam Jack James Peter David Simon Kevin Brian Frank George Henry Robert Thomas Steven"
)
PLACES = listed("store park school beach garden station office museum market church house library")
ROLES = listed("friend teacher doctor driver singer writer player leader farmer artist lawyer student")
OBJECTS = listed("drink book ring key ball map pen cake letter gift phone hat")
NOUNS = listed(
    "apple river stone cloud table window horse bird fish tree road bridge lamp chair paper glass bread"
    " snow fire rain wind star moon sun hill lake wood gold iron salt"
)
ARGUMENTS = listed(
    "size load file last first name path value key data text line word list item count index label"
    " width height color shape time date user group state mode type code"
)
VERBS = listed("port find read write sort pack move copy join print send open")

WOMEN_AND_MEN = WOMEN + MEN


def known(tokenizer: PreTrainedTokenizerBase, words: Iterable[str]) -> list[str]:
    """The words that are one token, and not the unknown one, when they follow a space."""
    words = list(words)
    encoded = after_space(tokenizer, words)
    return [w for w, t in zip(words, encoded, strict=True) if len(t) == 1 and t[0] != tokenizer.unk_token_id]


def after_space(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text as it is spelled inside a sentence, after a space.

    Encoded behind another word, since some tokenizers put a space of their own before whatever comes first.
    """
    first, *whole = tokenizer([ANCHOR, *(f"{ANCHOR} {text}" for text in texts)], add_special_tokens=False)["input_ids"]
    return [list(ids[len(first) :]) for ids in whole]
