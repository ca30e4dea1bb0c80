import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.scoring import missed
from foresight.common.files import read_json, write_json
from foresight.model import shipped
from foresight.model.components import component_table


def test_the_tables_of_a_small_model(tmp_path, monkeypatch):
    monkeypatch.setattr(missed, "SNAPSHOTS", 1)
    path = shipped.model_path()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    probe, reference = missed.probe_of("gender", tokenizer), tmp_path / "gender.npz"
    found = missed.measure(model, component_table(model), probe, reference)
    ways = found["ways"]
    for kind in ("head", "mlp"):  # 36 units, all of which the first snapshot patches
        assert ways["exact"][kind]["pearson"] > 0.99999 and ways["corrected, snapshot 1"][kind]["pearson"] > 0.99999
        assert ways["attribution"][kind]["pearson"] < 0.9999
    assert np.isclose(found["strongest"][0]["corrected"], found["strongest"][0]["exact"], rtol=1e-3)
    kept = reference.stat().st_mtime_ns
    assert missed.measure(model, component_table(model), probe, reference)["ways"] == ways
    assert reference.stat().st_mtime_ns == kept
    write_json(tmp_path / "gender.json", found)
    report = missed.report({"gender": read_json(tmp_path / "gender.json")})
    assert "## gender" in report and "| exact | 36 | 1.000 / 1.000 |" in report
