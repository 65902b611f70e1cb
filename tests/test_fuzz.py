"""500 damaged inputs of every kind end with a result or a sentence (`python -m benchmarks.fuzz` tries more)."""

from __future__ import annotations

from collections import Counter

import pytest

import cli
from benchmarks import fuzz, fuzz_inputs

COUNT = 300


def test_damaged_inputs_get_a_result_or_a_sentence() -> None:
    counts, findings = fuzz.fuzz(COUNT, seed=7)
    assert not findings
    assert sum(counts.values()) == COUNT
    assert min(counts.values()) >= COUNT // len(fuzz_inputs.SEEDS)


def test_the_inputs_are_the_same_for_the_same_seed() -> None:
    assert repr(fuzz.made(12, 7).files) == repr(fuzz.made(12, 7).files)


@pytest.mark.parametrize("number", [5, 12, 15, 18, 21, 22, 23, 24, 25, 26])
def test_the_undamaged_inputs_are_accepted(number: int) -> None:
    assert fuzz.answer(fuzz_inputs.SEEDS[number]())[0] == 0


def test_what_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = fuzz_inputs.SEEDS[18]()
    answers = {
        "defect": (cli.DEFECT, "", "error: IndexError at x"),
        "exit code": (3, "", ""),
        "hang": (None, "", ""),
        "no sentence": (2, "", "Traceback"),
        "absurd": (0, '[{"ttft_ms": -1.0}]', ""),
    }
    found: Counter[str] = Counter()
    for problem, answer in answers.items():
        monkeypatch.setattr(fuzz, "answer", lambda _made, answer=answer: answer)
        found.update(f.problem for f in fuzz.judge(0, sound) if f.problem == problem)
    assert found == Counter(answers.keys())
    for text in ('[{"tpot_ms": 0}]', '[{"ttft_ms_p90": Infinity}]', "TTFT nan ms", "a,ttft_ms\n1,-2\n"):
        monkeypatch.setattr(fuzz, "answer", lambda _made, text=text: (0, text, ""))
        assert [f.problem for f in fuzz.judge(0, sound)] == ["absurd"]
