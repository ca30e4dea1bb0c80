"""The leaderboard in the forecasters' README is that of the recorded results, and its ten lines are the template's."""

from eval.leaderboard import README, rendered


def test_the_table_is_that_of_the_recorded_results():
    text = README.read_text()
    assert rendered(text) == text


def test_removed_forecasters_keep_their_lines():
    text = README.read_text()
    for name in ("conformal", "elastic_net", "linear_weights", "logarithmic_weights"):
        assert f"| {name} (removed) |" in text


def test_the_ten_lines_are_those_of_the_template():
    shown = README.read_text().split("```python\n")[1].split("```")[0]
    template = (README.parent / "templates" / "ten_lines.py").read_text()
    assert shown.split("\n\n\n", 1)[1] == template.split("\n\n\n", 1)[1]
