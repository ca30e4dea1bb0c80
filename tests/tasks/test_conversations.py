import pytest
from datasets import Dataset

from foresight.common.errors import ConfigError, DataError
from foresight.tasks.columns import trainable
from foresight.tasks.conversations import as_conversations, refuse_dropped
from support.tiny import tiny_tokenizer

ASK, ANSWER = {"role": "user", "content": "Mary"}, {"role": "assistant", "content": "John"}
PLAIN = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


def table(*conversations, column="messages"):
    return Dataset.from_dict({column: list(conversations)})


def test_names_of_sharegpt_are_read():
    rows = table([{"from": "human", "value": "Mary"}, {"from": "gpt", "value": "John"}], column="conversations")
    assert as_conversations(rows, "rows")[:] == {"messages": [[ASK, ANSWER]]}


def test_parts_of_text_are_joined():
    parts = [{"type": "text", "text": "Ma"}, {"type": "text", "text": "ry"}]
    reply = [{"type": "text", "text": "John"}]
    rows = table([{"role": "user", "content": parts}, {"role": "assistant", "content": reply}])
    assert as_conversations(rows, "rows")[:] == {"messages": [[ASK, ANSWER]]}


def test_instructions_of_alpaca_become_text_where_a_model_has_no_template_for_chats():
    rows = Dataset.from_dict({"instruction": ["Add", "Sing"], "input": ["1 1", ""], "output": ["2", "la"]})
    found = trainable(rows, "rows")
    assert found["prompt"][:] == [
        "### Instruction:\nAdd\n\n### Input:\n1 1\n\n### Response:\n",
        "### Instruction:\nSing\n\n### Response:\n",
    ]
    assert found["completion"][:] == ["2", "la"]
    assert trainable(rows, "rows", chat=True)[0]["prompt"] == [{"role": "user", "content": "Add\n\n1 1"}]


def test_what_is_right_already_stays_the_same_table():
    for rows in (table([ASK, ANSWER]), Dataset.from_dict({"text": ["Mary"]})):
        assert as_conversations(rows, "rows") is rows
    both = Dataset.from_dict({"prompt": [[ASK]], "completion": [[ANSWER]]})
    assert as_conversations(both, "rows") is both


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        ([], "row 1 is an empty conversation"),
        ([ASK], "row 1 has no assistant turn"),
        ([ASK, {"role": "assistant", "content": None}], r"row 1 has a message 1 \(assistant\) without content"),
        ([ASK, {"role": "assistant", "content": ""}], r"row 1 has a message 1 \(assistant\) without content"),
        ([ASK, {"role": "asistant", "content": "John"}], r"of role 'asistant' \(did you mean 'assistant'\?\)"),
        ([{"role": None, "content": "Mary"}, ANSWER], "row 1 has a message 0 without a role"),
    ],
)
def test_the_first_row_that_cannot_be_used_is_named(conversation, reason):
    with pytest.raises(DataError, match=f"file.jsonl: .*{reason}"):
        as_conversations(table([ASK, ANSWER], conversation), "file.jsonl")


def test_a_picture_is_not_text():
    rows = table([{"role": "user", "content": [{"type": "image", "text": None}]}, {"role": "assistant", "content": []}])
    with pytest.raises(DataError, match="row 0 has parts other than text in message 0"):
        as_conversations(rows, "rows")


def test_numbers_are_not_taken_for_text():
    rows = Dataset.from_dict({"prompt": ["1 + 1 ="], "completion": [2]})
    with pytest.raises(DataError, match="row 0 has 2 in column 'completion'; expected text, or a list of messages"):
        as_conversations(rows, "rows")


def test_what_a_template_drops_is_named():
    tokenizer = tiny_tokenizer()
    rows = table([ASK, ANSWER], [{"role": "system", "content": "Be kind"}, ASK, ANSWER])
    refuse_dropped(rows, tokenizer, PLAIN)
    no_system = "{% for message in messages if message['role'] != 'system' %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(DataError, match=r"drops message 0 \(system\) of row 1"):
        refuse_dropped(rows, tokenizer, no_system)
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": "{}"}}]}
    with pytest.raises(DataError, match="drops the call of tool 'weather' in message 1 of row 0"):
        refuse_dropped(table([ASK, call, ANSWER]), tokenizer, PLAIN)


def test_what_a_template_refuses_names_the_row():
    strict = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('the user begins') }}{% endif %}MaryJohn"
    with pytest.raises(DataError, match=r"refuses row 1 \(the user begins\)"):
        refuse_dropped(table([ASK, ANSWER], [ANSWER, ASK]), tiny_tokenizer(), strict)


def test_conversations_need_a_template_and_other_rows_do_not():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template; set chat_template_path"):
        refuse_dropped(table([ASK, ANSWER]), tokenizer)
    refuse_dropped(Dataset.from_dict({"text": ["Mary"]}), tokenizer)


def test_thoughts_that_a_template_hides_are_no_loss():
    thinking = {"role": "assistant", "content": "<think>who\nwas it</think>\n\nJohn"}
    refuse_dropped(table([ASK, thinking]), tiny_tokenizer(), "{{ 'Mary John' if messages else '' }}")
