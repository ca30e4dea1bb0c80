"""Rows that a trainer refuses, or takes as its user means them."""

import pytest
from datasets import Dataset, IterableDataset
from trl import SFTConfig

from foresight.common.errors import ConfigError, DataError
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from support.tiny import sentences, tiny, tiny_tokenizer

ASK, ANSWER = {"role": "user", "content": "w3 w4"}, {"role": "assistant", "content": "w5"}
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }} "
    "{{ eos_token }}{% endgeneration %}{% else %}{{ message['content'] }} {% endif %}{% endfor %}"
)
UNMARKED = TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def trainer(rows, tmp_path, tokenizer=None, template=UNMARKED, **settings):
    tokenizer = tokenizer or tiny_tokenizer()
    tokenizer.chat_template = template
    given = dict(output_dir=str(tmp_path / "run"), use_cpu=True, bf16=False, report_to="none", policy="random",
                 max_steps=2, budget=0.2, disable_tqdm=True, per_device_train_batch_size=2)  # fmt: skip
    args = ForesightConfig(**given | settings)
    return ForesightTrainer(tiny(), args, rows, processing_class=tokenizer)


def chats(*conversations):
    return Dataset.from_dict({"messages": list(conversations)})


@pytest.mark.parametrize(
    ("rows", "settings", "error", "message"),
    [
        ([{"text": "w3"}], {}, DataError, r"train_dataset is a list; .*Dataset\.from_list\(rows\)"),
        (IterableDataset.from_generator(lambda: iter(())), {}, DataError, "an empty stream"),
        (Dataset.from_dict({"text": [3, 4]}), {}, DataError, "row 0 has 3 in column 'text'; expected text"),
        (chats([ASK, ANSWER], [ASK]), {}, DataError, "row 1 has no assistant turn"),
        (chats([ASK, ANSWER]), {"assistant_only_loss": True}, ConfigError, "Set chat_template_path to a copy"),
        (
            Dataset.from_dict({"text": ["w3 w4"]}),
            {"dataloader_drop_last": True},
            ConfigError,
            "a batch has 2 rows, the training dataset 1",
        ),
        (
            Dataset.from_dict({"prompt": ["w3 " * 9] * 4, "completion": ["w4"] * 4}),
            {"max_length": 8},
            DataError,
            r"4 of 4 training rows are left out: .*max_length \(8 tokens\)",
        ),
    ],
)
def test_rows_that_would_teach_nothing_are_refused_before_training(rows, settings, error, message, tmp_path):
    with pytest.raises(error, match=message):
        trainer(rows, tmp_path, **settings)


def test_what_the_template_drops_or_lacks_is_refused(tmp_path):
    rows = chats([{"role": "system", "content": "w9"}, ASK, ANSWER])
    with pytest.raises(DataError, match=r"the training dataset: the chat template drops message 0 \(system\) of row 0"):
        trainer(rows, tmp_path, template="{% for m in messages[1:] %}{{ m['content'] }} {% endfor %}")
    with pytest.raises(ConfigError, match="no chat template"):
        trainer(rows, tmp_path, template=None)


def test_sharegpt_and_alpaca_rows_train_as_their_own_forms_do(tmp_path):
    share = Dataset.from_dict(
        {"conversations": [[{"from": "human", "value": "w3 w4"}, {"from": "gpt", "value": "w5"}]]}
    )
    own = trainer(chats([ASK, ANSWER]), tmp_path).train_dataset[:]
    assert trainer(share, tmp_path).train_dataset[:]["input_ids"] == own["input_ids"]
    alpaca = Dataset.from_dict({"instruction": ["w3 w4"], "input": [""], "output": ["w5"]})
    pair = Dataset.from_dict({"prompt": [[ASK]], "completion": [[ANSWER]]})
    found, expected = trainer(alpaca, tmp_path).train_dataset, trainer(pair, tmp_path).train_dataset
    assert found["input_ids"][:] == expected["input_ids"][:] and found["labels"][:] == expected["labels"][:]


def test_a_template_exchanged_for_its_marks_is_put_back(tmp_path):
    marked = tmp_path / "marked.jinja"
    marked.write_text(TEMPLATE)
    tokenizer = tiny_tokenizer()
    run = trainer(
        chats(*[[ASK, ANSWER]] * 8), tmp_path, tokenizer, chat_template_path=str(marked), assistant_only_loss=True
    )
    assert run.train_dataset["labels"][0] == [-100, -100, 5, 2]
    run.train()
    saved = (tmp_path / "run" / "tokenizer" / "chat_template.jinja").read_text()
    assert saved == UNMARKED and tokenizer.chat_template == TEMPLATE


def test_a_tokenizer_without_an_end_is_refused(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="the tokenizer has no eos_token, which ends every row"):
        trainer(sentences(8), tmp_path, tokenizer)


def test_plain_settings_of_trl_are_refused_by_name(tmp_path):
    args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    with pytest.raises(ConfigError, match="args is a SFTConfig; expected a ForesightConfig"):
        ForesightTrainer(tiny(), args, sentences(8), processing_class=tiny_tokenizer())
