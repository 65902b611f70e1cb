"""Tasks that run in turn: what they ask is answered together, and each gets its own answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest

from hwdb import InputError, PerfmodelError
from perfmodel.cooperative_tasks import answer_each_kind, run_cooperatively

Ask = Callable[[Sequence[int]], Sequence[int]]


def squares(asked: list[list[int]]) -> Callable[[Sequence[int]], list[int | PerfmodelError]]:
    """Return a function that squares numbers, refuses 13, and keeps what it was asked at once."""

    def answer(questions: Sequence[int]) -> list[int | PerfmodelError]:
        asked.append(list(questions))
        return [InputError("unlucky") if q == 13 else q * q for q in questions]

    return answer


def rounds(first: int, count: int) -> Callable[[Ask], list[int]]:
    """Return a task that asks `count` times for two squares, of numbers from `first` on."""

    def task(ask: Ask) -> list[int]:
        return [sum(ask([first + turn, first + turn + 1])) for turn in range(count)]

    return task


def test_questions_of_all_that_wait_are_answered_together_and_in_order() -> None:
    asked: list[list[int]] = []
    found = dict(run_cooperatively([rounds(1, 2), rounds(20, 0), rounds(30, 3)], squares(asked)))
    assert found == {0: [1 + 4, 4 + 9], 1: [], 2: [900 + 961, 961 + 1024, 1024 + 1089]}
    assert asked == [[1, 2, 30, 31], [2, 3, 31, 32], [32, 33]]


def test_no_task_no_question() -> None:
    asked: list[list[int]] = []
    assert not list(run_cooperatively([], squares(asked)))
    assert dict(run_cooperatively([lambda ask: list(ask([]))], squares(asked))) == {0: []}


def test_an_error_reaches_the_task_that_asked_and_no_other() -> None:
    def careful(ask: Ask) -> str:
        try:
            ask([12, 13])
        except InputError as error:
            return str(error)
        return "none"

    assert dict(run_cooperatively([rounds(1, 1), careful, rounds(5, 2)], squares([]))) == {
        0: [5],
        1: "unlucky",
        2: [61, 85],
    }


def test_an_error_of_a_task_ends_all_others() -> None:
    ended: list[int] = []

    def asks_on(ask: Ask) -> int:
        try:
            while True:
                ask([1])
        finally:
            ended.append(1)

    with pytest.raises(InputError, match="unlucky"):
        list(run_cooperatively([asks_on, rounds(12, 1), asks_on], squares([])))
    assert ended == [1, 1]


def test_only_one_task_runs_at_a_time_with_the_settings_of_the_caller() -> None:
    running: list[int] = []

    def alone(ask: Ask) -> bool:
        for _ in range(5):
            running.append(1)
            assert len(running) == 1
            running.pop()
            ask([1])
        return np.geterr()["divide"] == "raise"

    with np.errstate(divide="raise"):
        assert all(found for _, found in run_cooperatively([alone] * 8, squares([])))


def test_an_interrupt_while_answering_ends_all_tasks() -> None:
    ended: list[int] = []

    def asks_once(ask: Ask) -> None:
        try:
            ask([1])
        finally:
            ended.append(1)

    def interrupted(_: object) -> list[int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_cooperatively([asks_once, asks_once], interrupted))
    assert ended == [1, 1]


def test_a_task_may_run_tasks_of_its_own() -> None:
    """Their questions are answered by the task, which asks in turn."""

    def outer(ask: Ask) -> list[list[int]]:
        return [found for _, found in run_cooperatively([rounds(1, 1), rounds(2, 1)], ask)]

    asked: list[list[int]] = []
    assert dict(run_cooperatively([outer, rounds(7, 1)], squares(asked))) == {0: [[5], [13]], 1: [113]}
    assert asked == [[1, 2, 2, 3, 7, 8]]


def test_many_tasks_wait_beside_each_other() -> None:
    """More than a system starts threads."""
    asked: list[list[int]] = []
    assert len(list(run_cooperatively([rounds(1, 1)] * 50_000, squares(asked)))) == 50_000
    assert len(asked) == 1


class Square(NamedTuple):
    """Ask for a square."""

    of: int

    @staticmethod
    def answers(questions: Sequence[Square]) -> list[int]:
        """Return all squares, with how many were asked at once."""
        return [100 * len(questions) + q.of**2 for q in questions]


class Length(NamedTuple):
    """Ask for the length of a word; none is known of an empty one."""

    word: str

    @staticmethod
    def answers(questions: Sequence[Length]) -> list[int | PerfmodelError]:
        """Return all lengths, with how many were asked at once."""
        return [1000 * len(questions) + len(q.word) if q.word else InputError("no word") for q in questions]


def test_questions_of_one_kind_are_answered_in_one_call_and_in_their_places() -> None:
    found = answer_each_kind([Square(3), Length("four"), Square(5), Length(""), Length("a")])
    assert found[:3] == [209, 3004, 225]
    assert isinstance(found[3], InputError)
    assert found[4] == 3001
    assert answer_each_kind([]) == []
