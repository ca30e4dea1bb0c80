import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div

from foresight.common.errors import ConfigError, DataError, UnknownNameError
from foresight.studies.evidence.edit import RankOneEdit, Steering
from foresight.studies.evidence.intervention import NONE
from foresight.studies.evidence.localizers import JUDGES, head_names
from foresight.studies.evidence.measures import effects, generate, score_answers, text_classifier
from foresight.studies.evidence.preferences import Question
from support.evidence_cases import many_heads, questions

ROWS = [("w3 w4 w5", " w6 w8"), ("w9", " w10"), ("w11 w12", " w13 w14 w15")]


def by_hand(model, tokenizer, prompt, answer):
    """Log-softmax [tokens of the answer, vocabulary] and the tokens, of one text without padding."""
    ids, n = tokenizer(prompt + answer)["input_ids"], len(answer.split())
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -n - 1 : -1].log_softmax(-1), torch.tensor(ids[-n:])


def test_log_probability_and_divergence_are_those_of_single_texts():
    model, table, tokenizer = many_heads()
    before = [by_hand(model, tokenizer, *row)[0] for row in ROWS]
    edit = RankOneEdit(model, table, head_names(table)[::2])
    for layer in edit.layers:
        torch.nn.init.normal_(layer.b)
    kept = {}
    found = score_answers(model, tokenizer, ROWS, edit, range(len(ROWS)), kept)
    assert kept.keys() == set(ROWS)
    for i, row in enumerate(ROWS):
        log_p, truth = by_hand(model, tokenizer, *row)
        assert found.log_probability[i] == pytest.approx(log_p.gather(1, truth[:, None]).sum().item(), abs=1e-4)
        kl = kl_div(before[i], log_p, log_target=True, reduction="none").sum(-1).mean()  # KL(log_p || before)
        assert found.divergence[i] == pytest.approx(kl.item(), abs=1e-4)
        assert found.predicted[i] == tokenizer.decode(log_p.argmax(-1).tolist())
    assert found.divergence.min() > 1e-3


def test_a_shift_acts_on_the_answer_alone():
    model, table, tokenizer = many_heads()
    steering = Steering(model, table, {head_names(table)[3]: torch.ones(4)})
    found = score_answers(model, tokenizer, ROWS, steering).log_probability
    alone = []
    for prompt, answer in ROWS:  # the same, one text at a time and position by position
        with steering.answering(torch.tensor([len(prompt.split()) - 1])):
            log_p, truth = by_hand(model, tokenizer, prompt, answer)
        alone.append(log_p.gather(1, truth[:, None]).sum().item())
    np.testing.assert_allclose(found, alone, atol=1e-4)


def test_effects_of_several_answers():
    model, _, tokenizer = many_heads()
    question = Question("w3 w4", (" w5", " w6"), (" w7", " w8", " w9"))
    p = np.exp(score_answers(model, tokenizer, [("w3 w4", f" w{i}") for i in range(5, 10)]).log_probability)
    found, _ = effects([question], model, tokenizer, NONE, {})
    assert found["choice"][0] == float(p[0] > p[2:].max())
    assert found["mass"][0] == pytest.approx(p[:2].sum() / p.sum())
    assert found["log_probability"][0] == pytest.approx(np.log(p[0]))


def test_what_the_model_said_before_is_asked_once():
    model, table, tokenizer = many_heads()
    edit, asked, before = RankOneEdit(model, table, head_names(table)[::2]), questions(6), {}
    for layer in edit.layers:
        torch.nn.init.normal_(layer.b)
    _, first = effects(asked, model, tokenizer, edit, {}, before=before)
    alone = score_answers(model, tokenizer, [(q.prompt, q.right[0]) for q in asked], edit, range(6)).divergence
    assert first == pytest.approx(alone.mean(), rel=1e-4) and first > 1e-3 and len(before) == 6
    passes = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    assert effects(asked, model, tokenizer, edit, {}, before=before)[1] == first
    with_before = len(passes)
    effects(asked, model, tokenizer, edit, {}, before={})
    assert len(passes) - with_before > with_before
    assert effects(asked, model, tokenizer, edit, {})[1] == 0


def test_judges_see_what_the_model_generates():
    model, _, tokenizer = many_heads()
    asked = questions(5)
    texts = generate(model, tokenizer, [q.prompt for q in asked], max_new_tokens=3)
    seen = {}

    def judge(prompts, answers):
        seen["answers"] = list(answers)
        return [1.0] * len(prompts)

    found, _ = effects(asked, model, tokenizer, NONE, {"judge": judge}, max_new_tokens=3)
    assert seen["answers"] == texts and found["judge"].tolist() == [1.0] * len(asked)
    with pytest.raises(DataError, match="one finite each"):
        effects(asked, model, tokenizer, NONE, {"judge": lambda prompts, answers: [float("nan")] * len(prompts)})


def test_generation_does_not_depend_on_the_padding():
    model, _, tokenizer = many_heads()
    prompts = ["w3", "w4 w5 w6 w7 w8", "w9 w10"]
    together = generate(model, tokenizer, prompts, 4)
    assert together == [generate(model, tokenizer, [prompt], 4)[0] for prompt in prompts]


def test_classifier_tells_answers_apart():
    judge = text_classifier([Question(f"w{i}", (" good answer",), (" bad answer",)) for i in range(20)])
    good, bad = judge(["w3", "w3"], ["good answer", "bad answer"])
    assert good > 0.5 > bad


def test_a_judge_is_found_by_its_path():
    assert JUDGES.find("support.evidence_cases:questions") is questions
    with pytest.raises(ConfigError, match="has no 'question'"):
        JUDGES.find("support.evidence_cases:question")
    with pytest.raises(UnknownNameError, match="judge"):
        JUDGES.find("nobody")


def test_an_answer_needs_a_token():
    model, _, tokenizer = many_heads()
    with pytest.raises(DataError, match="at least one token"):
        score_answers(model, tokenizer, [("w3", "")])
