"""Completions of one batch by a `transformers` model, each drawn from a stream of its own.

`generate` does the forward passes; which token comes next is chosen here. So a sample depends on
its own stream alone, each token's log-probability is kept without the logits of all steps, and a
row ends by itself at its own stop tokens and strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptharness.engines.base import Completion, GenerateRequest
from ptharness.errors import EngineError
from ptharness.protocol import Sampling, derive_seed
from ptharness.tokenizer import decode

_SLACK_TOKENS = 16
"""Tokens looked at beyond the bytes of a stop string: special ones have no text."""


@dataclass(frozen=True)
class Row:
    """One sample to draw; at most `budget` tokens, fewer than asked for where no more fit."""

    request: GenerateRequest
    sample: int
    budget: int

    @property
    def prompt(self) -> tuple[int, ...]:
        """The prompt's token ids."""
        return self.request.prompt_token_ids

    @property
    def drawing(self) -> tuple[Sampling, tuple[int, ...], int]:
        """What the rows of one batch have in common.

        The budget too: a row that has ended is computed on while others run, and may leave the
        positions that the model has.
        """
        return self.request.sampling, self.request.stop_token_ids, self.budget


def draw(lm: Any, rows: Sequence[Row]) -> list[Completion]:
    """The completions of rows that have their `drawing` in common, in order.

    `lm` is lm-eval's model. Raises `EngineError` where it gives no finite log-probability.
    """
    import torch

    sampling, stops, budget = rows[0].drawing
    width = max(len(row.prompt) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, width - len(row.prompt) :] = torch.tensor(row.prompt)
        mask[i, width - len(row.prompt) :] = 1
    ids, mask = ids.to(lm.device), mask.to(lm.device)
    choose = _Choose(mask, sampling, _streams(rows))
    ends = _Ends(width, len(rows), budget, frozenset(stops), _StopStrings(lm.tokenizer, sampling))
    precision = lm.mixed_precision_dtype
    with (
        torch.inference_mode(),
        torch.autocast(lm.device.type, dtype=precision, enabled=precision is not None),
    ):
        sequences = lm.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=budget,
            do_sample=False,
            use_cache=True,
            logits_processor=[choose],
            stopping_criteria=[ends],
        )
    drawn = [sequences[i, width : width + length].tolist() for i, length in enumerate(ends.lengths)]
    logprobs = torch.stack(choose.logprobs, dim=1).cpu()
    texts = decode(lm.tokenizer, drawn, skip_special_tokens=sampling.skip_special_tokens)
    completions = []
    for i, (token_ids, text) in enumerate(zip(drawn, texts, strict=True)):
        values = logprobs[i, : len(token_ids)]
        if not torch.isfinite(values).all():
            raise EngineError(
                f"request {rows[i].request.index}: the model's log-probabilities are not finite; "
                "set engine.dtype: float32 or bfloat16"
            )
        completions.append(
            Completion(tuple(token_ids), tuple(values.tolist()), text, ends.reasons[i])
        )
    return completions


def _streams(rows: Sequence[Row]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Uniform numbers in [0, 1), one for each token that a row may have: shape (rows, tokens)."""
    seeds = [derive_seed(row.request.seed, row.sample) for row in rows]
    numbers = [np.random.Generator(np.random.Philox(seed)).random(rows[0].budget) for seed in seeds]
    return np.stack(numbers)


class _Choose:
    """A logits processor that leaves one token: the likeliest, or the one that is drawn.

    `logprobs` holds those of the chosen tokens at temperature 1, one tensor (rows,) per step.
    """

    def __init__(
        self, mask: Any, sampling: Sampling, streams: np.ndarray[Any, np.dtype[np.float64]]
    ) -> None:
        self.sampling, self.streams = sampling, streams
        self.logprobs: list[Any] = []
        self._mask, self._width = mask, mask.shape[1]
        self._warpers = _warpers(sampling)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        logprobs = scores.log_softmax(-1)
        shaped = self._penalised(input_ids, scores)
        if self.sampling.temperature:
            for warper in self._warpers:
                shaped = warper(input_ids, shaped)
            chosen = self._drawn(shaped)
        else:
            chosen = shaped.argmax(-1, keepdim=True)
        self.logprobs.append(logprobs.gather(1, chosen)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)

    def _drawn(self, shaped: Any) -> Any:
        """The token at which the cumulated probability passes the row's next number."""
        import torch

        # Apple's GPUs have no numbers of 64 bits.
        exact = (shaped.cpu() if shaped.device.type == "mps" else shaped).double()
        cumulated = exact.softmax(-1).cumsum(-1)
        step = len(self.logprobs)
        number = torch.from_numpy(self.streams[:, step : step + 1].copy()).to(exact.device)
        found = torch.searchsorted(cumulated, number * cumulated[:, -1:], right=True)
        return found.clamp(max=shaped.shape[1] - 1).to(shaped.device)

    def _penalised(self, input_ids: Any, scores: Any) -> Any:
        """Repetition counts prompt and completion, presence and frequency the completion alone."""
        import torch

        sampling = self.sampling
        if sampling.repetition_penalty != 1.0:
            drawn = torch.ones_like(input_ids[:, self._width :])
            real = torch.cat((self._mask, drawn), dim=1).bool()
            # Padding is no token of the prompt: it repeats a real one.
            held = torch.where(real, input_ids, input_ids[:, self._width - 1 : self._width])
            values = scores.gather(1, held)
            factor = sampling.repetition_penalty
            values = torch.where(values < 0, values * factor, values / factor)
            scores = scores.scatter(1, held, values)
        if sampling.presence_penalty or sampling.frequency_penalty:
            completion = input_ids[:, self._width :]
            counts = torch.zeros_like(scores).scatter_add_(
                1, completion, torch.ones_like(completion, dtype=scores.dtype)
            )
            scores = (
                scores
                - sampling.frequency_penalty * counts
                - sampling.presence_penalty * (counts > 0)
            )
        return scores


def _warpers(sampling: Sampling) -> list[Any]:
    """What shapes a distribution, in the order in which `transformers` applies it."""
    from transformers.generation import logits_process as known

    if not sampling.temperature:
        return []
    try:
        return [
            known.TemperatureLogitsWarper(sampling.temperature),
            *([known.TopKLogitsWarper(sampling.top_k)] if sampling.top_k > 0 else []),
            *([known.TopPLogitsWarper(sampling.top_p)] if sampling.top_p != 1.0 else []),
            *([known.MinPLogitsWarper(sampling.min_p)] if sampling.min_p else []),
        ]
    except ValueError as error:
        raise EngineError(f"transformers cannot sample so: {error}") from error


class _StopStrings:
    """Which completions have just come to a stop string; `tokens` at their end tell."""

    def __init__(self, tokenizer: Any, sampling: Sampling) -> None:
        self._tokenizer, self._skips = tokenizer, sampling.skip_special_tokens
        self._stops = [stop for stop in sampling.stop if stop]
        longest = max((len(stop.encode()) for stop in self._stops), default=0)
        self.tokens = longest + _SLACK_TOKENS if self._stops else 1

    def reached(self, tails: list[list[int]]) -> list[bool]:
        """Whether a stop string is in the text of each tail."""
        if not self._stops:
            return [False] * len(tails)
        texts = decode(self._tokenizer, tails, skip_special_tokens=self._skips)
        return [any(stop in text for stop in self._stops) for text in texts]


class _Ends:
    """A stopping criterion: `lengths` in tokens and `reasons` of the rows that have ended."""

    def __init__(
        self, width: int, rows: int, budget: int, stops: frozenset[int], strings: _StopStrings
    ) -> None:
        self._width, self._budget, self._stops, self._strings = width, budget, stops, strings
        self.lengths = [0] * rows
        self.reasons = ["length"] * rows

    def __call__(self, input_ids: Any, *_: Any, **__: Any) -> Any:
        import torch

        drawn = input_ids[:, self._width :]
        length = drawn.shape[1]
        tails = drawn[:, -self._strings.tokens :].tolist()
        running = [i for i, ended in enumerate(self.lengths) if not ended]
        reached = self._strings.reached([tails[i] for i in running])
        for i, at_string in zip(running, reached, strict=True):
            if at_string or tails[i][-1] in self._stops:
                self.lengths[i], self.reasons[i] = length, "stop"
            elif length >= self._budget:
                self.lengths[i] = length
        return torch.tensor([ended > 0 for ended in self.lengths], device=input_ids.device)
