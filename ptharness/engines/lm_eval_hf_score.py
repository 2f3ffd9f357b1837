"""Log-likelihoods of one batch by lm-eval's `hf` model, token by token.

The same forward passes as in `HFLM._loglikelihood_tokens` of lm-eval 0.4.13, which keeps only
their sums: padded on the right, the last token left out, the softmax in the same dtype, and
requests that differ in their last token alone share one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ptharness.engines.base import Scored, ScoreRequest
from ptharness.errors import EngineError

Group = list[ScoreRequest]
"""Requests whose tokens but the last are equal, the longest continuation first."""


def group_by_input(requests: Sequence[ScoreRequest]) -> list[Group]:
    """Requests that one pass answers, the longest first."""
    groups: dict[tuple[int, ...], Group] = {}
    for request in requests:
        groups.setdefault(model_input(request), []).append(request)
    for group in groups.values():
        group.sort(key=lambda request: -len(request.continuation_token_ids))
    return [groups[tokens] for tokens in sorted(groups, key=len, reverse=True)]


def model_input(request: ScoreRequest) -> tuple[int, ...]:
    """What is computed: all tokens but the last, after which nothing is asked."""
    return (request.context_token_ids + request.continuation_token_ids)[:-1]


def score(lm: Any, groups: Sequence[Group]) -> list[list[Scored]]:
    """The results of each group, in order. Raises `EngineError` where one is not finite."""
    import torch

    inputs = [model_input(group[0]) for group in groups]
    ids = torch.zeros((len(inputs), max(map(len, inputs))), dtype=torch.long)
    for i, tokens in enumerate(inputs):
        ids[i, : len(tokens)] = torch.tensor(tokens)
    logits = lm._model_call(ids.to(lm.device))
    return [
        _results(lm, group, logits[i, : len(inputs[i])][-len(group[0].continuation_token_ids) :])
        for i, group in enumerate(groups)
    ]


def _results(lm: Any, group: Group, logits: Any) -> list[Scored]:
    """`logits` are those of the longest continuation of the group: (tokens, vocabulary)."""
    import torch

    logprobs = logits.log_softmax(-1, dtype=lm.softmax_dtype)
    likeliest = logprobs.argmax(-1)
    results = []
    for request in group:
        wanted = torch.tensor(request.continuation_token_ids, device=logprobs.device)
        count = len(wanted)
        values = logprobs[-count:].gather(1, wanted[:, None])[:, 0]
        if not torch.isfinite(values).all():
            raise EngineError(
                f"request {request.index}: its log-likelihood is not finite; set "
                "engine.dtype: float32 or bfloat16"
            )
        greedy = bool((likeliest[-count:] == wanted).all())
        # float32 also where the softmax is not: what is stored has one width.
        whole = logprobs[-count:].float().cpu().numpy() if request.distributions else None
        results.append(Scored(request.index, tuple(values.tolist()), greedy, whole))
    return results
