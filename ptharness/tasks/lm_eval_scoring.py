"""Scores responses with an lm-eval task's own filters and `process_results`, per sample.

lm-eval scores one response per request. Here each sample is scored as if it were the only
one; filters that need all samples of a document (majority vote, first k) get all of them.
"""

from __future__ import annotations

import json
import numbers
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ptharness.protocol import cut_at_stop
from ptharness.tasks.base import Document, Score
from ptharness.tasks.choice_probability import CHOICE_PROBABILITY, choice_probability
from ptharness.tasks.lm_eval_build import one_line, quiet
from ptharness.tasks.lm_eval_prompts import choices_of, item_name, stops_of

Pair = tuple[str, str]


@dataclass
class _Outcome:
    values: dict[Pair, float] = field(default_factory=dict)
    raw: dict[Pair, str] = field(default_factory=dict)
    answer: str | None = None
    errors: list[str] = field(default_factory=list)


class Scorer:
    """Scores documents of one task; `primary` names the metric and filter of `answer`.

    `answer_of` gives what of a completion the filters see.
    """

    def __init__(
        self, name: str, task: Any, primary: Pair, answer_of: Callable[[str], str] = str
    ) -> None:
        self.name, self.task, self.primary, self.answer_of = name, task, primary, answer_of
        repeats = int(getattr(task.config, "repeats", None) or 1)
        together = {f.name for f in task._filters if needs_all_samples(f, repeats)}
        self.apart = [f for f in task._filters if f.name not in together]
        self.together = [f for f in task._filters if f.name in together]

    def score(self, document: Document, content: Any) -> Iterator[Score]:
        """One score per sample, then one with `sample=None` where a filter needs them all."""
        samples = len(document.responses[0])
        responses = [[self._seen(response) for response in all_] for all_ in document.responses]
        singles = [[[choice[j]] for choice in responses] for j in range(samples)]
        outcomes = self._outcomes(document.index, content, self.apart, singles)
        for sample, outcome in enumerate(outcomes):
            yield self._as_score(document.index, sample, outcome)
        if self.together:
            enough = [f for f in self.together if first_k(f) <= samples]
            everything = [responses]
            (outcome,) = self._outcomes(document.index, content, enough, everything)
            outcome.errors += [
                f"task {self.name!r}: filter {f.name!r} needs {first_k(f)} samples of an item and "
                f"there are {samples}; set samples: {first_k(f)} or more for this task"
                for f in self.together
                if f not in enough
            ]
            yield self._as_score(document.index, None, outcome)

    def _seen(self, response: str | tuple[float, bool]) -> Any:
        """A response as lm-eval's filters and scorers take it."""
        if isinstance(response, str):
            return self.answer_of(response)
        return response[0] if self.task.OUTPUT_TYPE == "loglikelihood_rolling" else response

    def _outcomes(
        self, index: int, content: Any, filters: Sequence[Any], samples: Sequence[Any]
    ) -> list[_Outcome]:
        """`samples[s][r]` lists the responses to request r that count as sample s."""
        outcomes = [_Outcome() for _ in samples]
        where = f"task {self.name!r}, item {item_name(index, content)}"
        instances = [
            [self._instance(index, content, r, x) for r, x in enumerate(s)] for s in samples
        ]
        for ensemble in filters:
            try:
                ensemble.apply([instance for sample in instances for instance in sample])
            except Exception as error:
                for outcome in outcomes:
                    outcome.errors.append(f"{where}: filter {ensemble.name!r}: {one_line(error)}")
                continue
            for sample, outcome in zip(instances, outcomes, strict=True):
                filtered = [instance.filtered_resps[ensemble.name] for instance in sample]
                try:
                    self._process(content, ensemble.name, filtered, outcome)
                except Exception as error:
                    outcome.errors.append(f"{where}: process_results: {one_line(error)}")
        return outcomes

    def _instance(self, index: int, content: Any, request: int, responses: list[Any]) -> Any:
        from lm_eval.api.instance import Instance

        return Instance(
            request_type=self.task.OUTPUT_TYPE,
            doc=content,
            arguments=(),
            idx=request,
            metadata=(self.name, index, 1),
            resps=responses,
        )

    def _process(self, content: Any, filter_name: str, filtered: list[Any], to: _Outcome) -> None:
        if filter_name == self.primary[1]:
            to.answer = answer_text(self.task, content, filtered, self.primary[0])
        for metric, value in self.task.process_results(content, filtered).items():
            pair = (str(metric), filter_name)
            number = as_number(value)
            if number is None:
                to.raw[pair] = pack(value)
            else:
                to.values[pair] = number
        if self.task.OUTPUT_TYPE == "multiple_choice":
            believed = choice_probability(self.task, content, [float(f[0]) for f in filtered])
            if believed is not None:
                to.values.setdefault((CHOICE_PROBABILITY, filter_name), believed)

    def _as_score(self, index: int, sample: int | None, outcome: _Outcome) -> Score:
        return Score(
            document=index,
            sample=sample,
            values=outcome.values,
            answer=outcome.answer,
            raw=outcome.raw,
            error="; ".join(dict.fromkeys(outcome.errors)),
        )


def after_thinking(text: str, think_end_token: str, stops: tuple[str, ...]) -> str:
    """The answer after a model's last thought, as lm-eval's models cut it.

    Without the token it is the whole text: a thought that was cut off is scored as it is.

    >>> after_thinking("<think>6?</think> No, 7.</think> 7.\\nDone", "</think>", ("\\n",))
    '7.'
    """
    return cut_at_stop(text.rsplit(think_end_token, 1)[-1].lstrip(), stops)


def own_stops(task: Any, document: Any) -> tuple[str, ...]:
    """The stop strings that a task asks for, from its request for a document."""
    try:
        with quiet():
            made = task.construct_requests(document, "", metadata=("", 0, 1))
        request = made[0] if isinstance(made, list) else made
        return stops_of(request.args[1].get("until"))
    except Exception:
        # Not a request for text, or one that needs its context: then nothing is to be cut.
        return ()


def first_k(ensemble: Any) -> int:
    """The most samples that a filter pipeline asks for at its start (`take_first_k`)."""
    from lm_eval.filters.selection import TakeKFilter

    return max((int(f.keywords["k"]) for f in ensemble.filters if f.func is TakeKFilter), default=1)


def needs_all_samples(ensemble: Any, repeats: int) -> bool:
    """Whether a filter pipeline combines the samples of a document.

    Majority vote and the first k > 1 do. A function of the task's own might: it is handed
    all samples where the task itself asks for `repeats`, and so was written for several.
    """
    from lm_eval.api.registry import filter_registry
    from lm_eval.filters.selection import MajorityVoteFilter, TakeFirstFilter, TakeKFilter

    known = set(dict(filter_registry.items()).values())
    steps = [(step.func, step.keywords) for step in ensemble.filters]
    if any(
        made is MajorityVoteFilter or (made is TakeKFilter and int(options["k"]) > 1)
        for made, options in steps
    ):
        return True
    own = any(made not in known or "filter_fn" in options for made, options in steps)
    ends_with_one = any(made is TakeFirstFilter for made, _ in steps)
    return repeats > 1 and (own or not ends_with_one)


def answer_text(task: Any, document: Any, filtered: Sequence[Any], metric: str) -> str | None:
    """What the filter extracted, or the text of the choice that the metric takes as chosen."""
    if task.OUTPUT_TYPE == "multiple_choice":
        return _chosen(choices_of(task, document), filtered, metric)
    if task.OUTPUT_TYPE != "generate_until":
        return None
    answer = filtered[0]
    if isinstance(answer, list | tuple) and len(answer) == 1:
        answer = answer[0]
    return None if answer is None else str(answer)


def _chosen(choices: Sequence[str], filtered: Sequence[Any], metric: str) -> str | None:
    if not choices or len(filtered) < len(choices):
        return None
    log_likelihoods = [float(response[0]) for response in filtered]
    weights = log_likelihoods[: len(choices)]
    if metric == "acc_norm":
        weights = [w / len(c) for w, c in zip(weights, choices, strict=True)]
    elif metric == "acc_bytes":
        weights = [w / len(c.encode()) for w, c in zip(weights, choices, strict=True)]
    elif metric == "acc_mutual_info" and len(log_likelihoods) == 2 * len(choices):
        alone = log_likelihoods[len(choices) :]
        weights = [w - a for w, a in zip(weights, alone, strict=True)]
    return choices[max(range(len(choices)), key=weights.__getitem__)]


def as_number(value: Any) -> float | None:
    """A metric's value as a float; None where it is not a single number."""
    if hasattr(value, "item") and getattr(value, "size", 0) == 1 and not getattr(value, "ndim", 1):
        value = value.item()
    return float(value) if isinstance(value, numbers.Real) else None


def pack(value: Any) -> str:
    """Anything a task's aggregation may take, as JSON that remembers tuples and arrays.

    Raises `TypeError` for a value that JSON cannot hold.
    """
    return json.dumps(_tagged(value), ensure_ascii=False)


def _tagged(value: Any) -> Any:
    if isinstance(value, dict):
        return {"dict": [[_tagged(key), _tagged(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_tagged(item) for item in value]}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if hasattr(value, "tolist"):
        listed = value.tolist()
        return {"array": listed} if isinstance(listed, list) else listed
    return value


def unpack(text: str) -> Any:
    """The inverse of `pack`."""
    return _untagged(json.loads(text))


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tuple":
        return tuple(_untagged(item) for item in content)
    if kind == "dict":
        return {_untagged(key): _untagged(item) for key, item in content}
    import numpy as np

    return np.array(content)
