"""Word lists that tasks share, and the test of whether a word is a single token.

Lists are longer than needed: `known` keeps the words that a tokenizer spells with one token after a space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


ANCHOR = "a"

WOMEN = "Mary Anna Lucy Jane Sarah Kate Emma Rose Lily Laura Alice Helen Julia Susan Karen Linda Maria Nancy".split()
MEN = (
    "John Paul Mark Luke Adam Jack James Peter David Simon Kevin Brian Frank George Henry Robert Thomas Steven"
).split()
PLACES = "store park school beach garden station office museum market church house library".split()
ROLES = "friend teacher doctor driver singer writer player leader farmer artist lawyer student".split()
OBJECTS = "drink book ring key ball map pen cake letter gift phone hat".split()
NOUNS = (
    "apple river stone cloud table window horse bird fish tree road bridge lamp chair paper glass bread"
    " snow fire rain wind star moon sun hill lake wood gold iron salt"
).split()
ARGUMENTS = (
    "size load file last first name path value key data text line word list item count index label"
    " width height color shape time date user group state mode type code"
).split()
VERBS = "port find read write sort pack move copy join print send open".split()
DURATIONS = "war trip project reign siege voyage journey drought plague truce".split()


def known(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[str]:
    """Return the words that are one known token when they follow a space."""
    encoded = after_space(tokenizer, words)
    return [w for w, t in zip(words, encoded, strict=True) if len(t) == 1 and t[0] != tokenizer.unk_token_id]


def after_space(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text as it is spelled inside a sentence, after a space.

    Each text is encoded behind another word, since some tokenizers add a space of their own before the first word.
    """
    first, *whole = tokenizer([ANCHOR, *(f"{ANCHOR} {text}" for text in texts)], add_special_tokens=False)["input_ids"]
    return [list(ids[len(first) :]) for ids in whole]
