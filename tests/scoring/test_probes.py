import pytest
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from foresight.common.errors import ConfigError, DataError
from foresight.scoring.probes import ContrastProbe, TextProbe

WORDS = "when mary and john went to the store , gave it paris".split()


def tokenizer(template=None):
    ids = {w: i for i, w in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    core = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    if template:
        core.post_processor = TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


ROW = {
    "clean": "when mary and john went , john gave it to",
    "corrupted": "when mary and john went , mary gave it to",
    "answer": " mary",
    "wrong_answer": " john",
}
SHORT = {"clean": "john gave it to", "corrupted": "mary gave it to", "answer": " mary", "wrong_answer": " john"}


def contrast(*rows, tok=None, batch_size=8, **settings):
    return ContrastProbe.from_dataset(Dataset.from_list(list(rows)), tok or tokenizer(), batch_size, **settings)


def test_pairs_are_right_padded_with_the_answer_at_each_last_position():
    probe = contrast(ROW, SHORT)
    (batch,) = probe.batches
    mary, john = 4 + WORDS.index("mary"), 4 + WORDS.index("john")
    assert probe.has_pairs and probe.n_examples == 2
    assert batch.attention_mask.sum(1).tolist() == [4, 10]  # shorter first: batches are made in order of length
    assert batch.targets[0].tolist() == [-100] * 3 + [mary] + [-100] * 6
    assert batch.targets[1].tolist() == [-100] * 9 + [mary]
    assert batch.wrong.tolist() == [john, john]
    assert [t.tolist() for t in batch.labelled] == [[0, 1], [3, 9]]
    assert (batch.input_ids != batch.corrupted_ids).sum(1).tolist() == [1, 1]


def test_special_tokens_are_kept_but_no_end_of_sequence():
    plain, special = contrast(ROW).batches[0], contrast(ROW, tok=tokenizer("<s> $A </s>")).batches[0]
    assert special.input_ids[0].tolist() == [1, *plain.input_ids[0].tolist()]
    assert special.targets[0, -1] == plain.targets[0, -1]


def test_batches_and_max_examples():
    probe = contrast(ROW, SHORT, ROW, SHORT, batch_size=2)
    assert [b.input_ids.shape for b in probe.batches] == [(2, 4), (2, 10)]
    assert contrast(ROW, SHORT, max_examples=1).n_examples == 1


def test_hash_tells_data_apart():
    assert contrast(ROW).hash == contrast(ROW).hash != contrast(SHORT).hash
    assert len({contrast(ROW).hash, contrast({**ROW, "wrong_answer": " paris"}).hash}) == 2


def without(column):
    return {k: v for k, v in ROW.items() if k != column}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([SHORT, {**ROW, "corrupted": "mary gave it to"}], r"(?s)pair 1.*10 tokens and corrupted 4.*mary gave it to"),
        ([{**ROW, "answer": " mary went"}], "(?s)pair 0.*exactly one token"),
        ([{**ROW, "answer": " quebec"}], "(?s)pair 0.*vocabulary"),
        ([{**ROW, "wrong_answer": " mary"}], "(?s)pair 0.*same token"),
        ([{**ROW, "clean": "", "corrupted": ""}], "(?s)pair 0.*no tokens"),
        ([{**without("clean"), "claen": "x"}], "no column 'clean' \\(did you mean 'claen'"),
        ([without("wrong_answer")], "no column 'wrong_answer'"),
    ],
)
def test_pairs_that_cannot_be_used_are_shown(rows, message):
    with pytest.raises(DataError, match=message):
        contrast(*rows)


def test_empty_pairs_and_impossible_sizes_are_refused():
    empty = Dataset.from_dict({k: [] for k in ROW})
    with pytest.raises(DataError, match="empty"):
        ContrastProbe.from_dataset(empty, tokenizer(), 8)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        contrast(ROW, batch_size=0)
    with pytest.raises(ConfigError, match="max_examples is 0"):
        contrast(ROW, max_examples=0)


def test_text_targets_are_the_next_tokens():
    row = {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}
    probe = TextProbe.from_dataset([row, {"input_ids": [5, 6]}], 2)
    assert not probe.has_pairs
    (batch,) = probe.batches
    assert batch.input_ids.tolist() == [[5, 6, 0, 0], [5, 6, 7, 8]]
    assert batch.targets.tolist() == [[6, -100, -100, -100], [-100, 7, 8, -100]]


def test_masks_say_what_is_predicted_where_there_are_no_labels():
    row = {"input_ids": [5, 6, 7, 8], "completion_mask": [0, 0, 1, 1], "assistant_masks": [0, 1, 1, 0]}
    (batch,) = TextProbe.from_dataset([row], 1).batches
    assert batch.targets.tolist() == [[-100, 7, -100, -100]]


def test_rows_that_predict_nothing_are_left_out():
    rows = [{"input_ids": [5, 6, 7]}, {"input_ids": [5, 6], "labels": [-100, -100]}, {"input_ids": [5]}]
    assert TextProbe.from_dataset(rows, 2).n_examples == 1
    with pytest.raises(DataError, match="are all labels -100"):
        TextProbe.from_dataset(rows[1:], 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the dataset is empty"),
        ([{"input_idz": [1]}], "row 0: no column 'input_ids' \\(did you mean 'input_idz'"),
        ([{"input_ids": [5, 6]}, {"input_ids": [5, 6], "labels": [5]}], "row 1: labels has 1 entries and input_ids 2"),
    ],
)
def test_text_that_cannot_be_used_is_refused(rows, message):
    with pytest.raises(DataError, match=message):
        TextProbe.from_dataset(rows, 2)
