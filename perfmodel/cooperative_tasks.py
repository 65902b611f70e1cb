"""Run several tasks cooperatively, so that their requests for estimates or prices are answered in common batches.

Each task is a greenlet: a function that can wait in the middle of its calls. A task runs until it makes a request, then
the next task runs. When all tasks wait, one call answers all their requests. The order is fixed, so that tasks need no
locks and results do not depend on timing.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from greenlet import getcurrent, greenlet

from hwdb import PerfmodelError

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Result = TypeVar("Result")
#: A function that tasks ask several questions with, and that returns the answers.
Asking = Callable[[Sequence[Question]], Sequence[Answer]]


class Kind(Protocol):
    """A question of a kind that says how several of it are answered together."""

    @staticmethod
    def answers(questions: Sequence[Any]) -> Sequence[Any]:
        """Return the answer of each question, or the error of one that has none."""
        ...


def answer_each_kind(questions: Sequence[Kind]) -> list[Any]:
    """Return the answers of questions of several kinds, those of one kind from one call."""
    return answer_alike(questions, type, lambda some: type(some[0]).answers(some))


def answer_alike(
    questions: Sequence[Question], form: Callable[[Question], Hashable], together: Asking[Question, Answer]
) -> list[Answer]:
    """Return the answers of questions in their order, those of one form from one call.

    form: returns what agrees between questions that are answered together. together: answers these.
    """
    alike: dict[Hashable, list[int]] = {}
    for place, question in enumerate(questions):
        alike.setdefault(form(question), []).append(place)
    found: dict[int, Answer] = {}
    for places in alike.values():
        found |= zip(places, together([questions[place] for place in places]), strict=True)
    return [found[place] for place in range(len(questions))]


class _Turn(Generic[Question, Answer, Result]):
    """One task as a greenlet, and the requests and answers that pass between it and the answering one."""

    def __init__(self, task: Callable[[Asking[Question, Answer]], Result]) -> None:
        """Keep the task; `start` runs it, with the context variables of the caller."""
        self.questions: Sequence[Question] | None = None
        self.result: Result
        self._task, self._answering, self._asking = task, getcurrent(), greenlet(self._run)
        self._asking.gr_context = contextvars.copy_context()

    def start(self) -> None:
        """Run the task up to its first question, or to its end; raise what it raises."""
        self.questions = self._asking.switch()

    def go_on(self, answers: Sequence[Answer | PerfmodelError]) -> None:
        """Give the task its answers and run it up to its next questions; `questions` is None where it ends."""
        self.questions = self._asking.switch(answers)

    def stop(self) -> None:
        """End the task where it waits: `GreenletExit`, which is no `Exception`, is raised there."""
        if not self._asking.dead:
            self._asking.throw()

    def _run(self) -> None:
        """Keep the result of the task."""
        self.result = self._task(self._ask)

    def _ask(self, questions: Sequence[Question]) -> Sequence[Answer]:
        """Let the answering greenlet run until it has the answers; raise the first error among them."""
        return checked(self._answering.switch(questions))


def checked(answers: Sequence[Answer | PerfmodelError]) -> list[Answer]:
    """Return answers; raise the first error among them."""
    found: list[Answer] = []
    for answer in answers:
        if isinstance(answer, PerfmodelError):
            raise answer
        found.append(answer)
    return found


def run_cooperatively(
    tasks: Sequence[Callable[[Asking[Question, Answer]], Result]],
    answer: Callable[[Sequence[Question]], Sequence[Answer | PerfmodelError]],
) -> Iterator[tuple[int, Result]]:
    """Run all tasks to their end; yield (number, result) of each as it ends. An exception of a task is raised here.

    Args:
        tasks: each task gets a function that takes a list of questions and returns their answers.
        answer: answers the questions of all waiting tasks in one call. An error among the answers is raised in the task
            that asked the question.
    """
    turns: list[_Turn[Question, Answer, Result]] = [_Turn(task) for task in tasks]
    try:
        for turn in turns:
            turn.start()
        yield from _ended(turns, answer)
    finally:
        for turn in turns:
            turn.stop()


def _ended(
    turns: Sequence[_Turn[Question, Answer, Result]],
    answer: Callable[[Sequence[Question]], Sequence[Answer | PerfmodelError]],
) -> Iterator[tuple[int, Result]]:
    """Answer the questions of tasks until all have ended; yield the number and the result of each as it ends."""
    waiting = dict(enumerate(turns))
    while waiting:
        for number, turn in list(waiting.items()):
            if turn.questions is None:
                yield number, waiting.pop(number).result
        if not waiting:
            return
        answers = answer([question for turn in waiting.values() for question in turn.questions or ()])
        start = 0
        for turn in waiting.values():
            stop = start + len(turn.questions or ())
            mine, start = answers[start:stop], stop
            turn.go_on(mine)
