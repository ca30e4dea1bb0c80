import json

import pytest

from foresight.common.errors import ConfigError, DataError
from foresight.tasks.data_config import DataConfig
from foresight.tasks.load_data import load_data
from foresight.tasks.read_table import read_table
from support.tiny import tiny_tokenizer


def written(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    tiny_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 64}))
    return str(folder)


def test_rows_are_shown_with_what_is_trained_on(cli, model, tmp_path):
    rows = [{"prompt": "w3 w4", "completion": " w5"}] * 39 + [{"prompt": "w3 " * 20, "completion": " w6"}]
    data = written(tmp_path / "rows.jsonl", rows)
    words = ("preview", "--model", model, "--dataset", data, "--output_dir", str(tmp_path / "run"), "--max_length", "9")
    code, out, err = cli(*words, "--rows", "1")
    assert code == 0, err
    assert "w3 w4⟦w5" in out.replace("⟦ ", "⟦") and "40" in out
    assert "2.5% of rows, the first is row 39" in out
    assert not (tmp_path / "run").exists()


def test_a_table_that_a_run_would_refuse_is_refused(cli, model, tmp_path):
    data = written(tmp_path / "rows.jsonl", [{"text": "nobody knows these words"}] * 3)
    code, _, err = cli("preview", "--model", model, "--dataset", data, "--output_dir", str(tmp_path / "run"))
    assert code == 2 and "of the tokens in the training rows are unknown" in err


def test_datasets_are_mixed_by_their_share_of_all_rows(tmp_path):
    main = written(tmp_path / "main.jsonl", [{"text": f"w{3 + i % 9}"} for i in range(60)])
    other = written(tmp_path / "other.jsonl", [{"text": "w40"}, {"text": "w41"}])
    config = DataConfig(dataset=main, mix={other: 0.25})
    texts = load_data(config, tiny_tokenizer(), seed=1)[0]["text"][:]
    assert len(texts) == 80 and texts[60:].count("w40") == texts[60:].count("w41") == 10
    assert texts == load_data(config, tiny_tokenizer(), seed=1)[0]["text"][:]


def test_a_mix_of_other_columns_or_without_a_rest_is_refused(tmp_path):
    main = written(tmp_path / "main.jsonl", [{"text": "w3"}])
    other = written(tmp_path / "other.jsonl", [{"prompt": "w3", "completion": "w4"}])
    with pytest.raises(DataError, match="other.jsonl has the columns prompt, completion and the training dataset text"):
        load_data(DataConfig(dataset=main, mix={other: 0.5}), tiny_tokenizer())
    for mix in ({other: 1.0}, {other: 0}, {other: "much"}):
        with pytest.raises(ConfigError, match="expected shares of all rows above 0 that together are below 1"):
            DataConfig(dataset=main, mix=mix)


def test_other_encodings_are_named_with_their_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"text": "a"}\n{"text": "café"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"rows.jsonl, line 2: byte 0xe9 is not UTF-8; .* iconv -f latin1 -t utf-8"):
        read_table(path)
