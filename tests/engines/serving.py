"""A small server of the completions API, which computes with `transformers` for real."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from tests.engines.asking import reference


@dataclass
class Served:
    """What a running server holds, and what it was asked: the bodies of all requests."""

    folders: Mapping[str, Path]
    tokenizer: Any
    asked: list[dict[str, Any]] = field(default_factory=list)
    answered: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""
    failing: list[int] = field(default_factory=list)
    """Status codes to answer the next requests with, first of all."""
    lists_models: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """What the completions API says to a body with one prompt of token ids."""
        model = reference(self.folders[body["model"]])
        [prompt] = body["prompt"]
        if body.get("echo"):
            with torch.inference_mode():
                logprobs = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
            rest = torch.tensor(prompt[1:])
            own = logprobs[:-1].gather(1, rest[:, None])[:, 0].tolist()
            best = logprobs.max(-1).values.tolist()
            said: dict[str, Any] = {
                "logprobs": {
                    "token_logprobs": [None, *own, best[-1]],
                    "top_logprobs": [None, *({"x": value} for value in best)],
                }
            }
        else:
            said = self._complete(model, prompt, body)
        return {"choices": [{"index": 0, **said}]}

    def _complete(self, model: Any, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        torch.manual_seed(body["seed"])
        drawn: list[int] = []
        while len(drawn) < body["max_tokens"]:
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + drawn])).logits[0, -1]
            if body["temperature"]:
                weights = (logits / body["temperature"]).softmax(-1)
                drawn.append(int(weights.multinomial(1)))
            else:
                drawn.append(int(logits.argmax()))
            text = self.tokenizer.decode(drawn, skip_special_tokens=True)
            for stop in body["stop"]:
                if stop in self.tokenizer.decode(drawn):
                    return {"text": text.split(stop)[0], "finish_reason": "stop"}
        return {"text": text, "finish_reason": "length"}


@contextmanager
def serve(folders: Mapping[str, Path]) -> Iterator[Served]:
    """A server of these checkpoints under these names, on this machine alone."""
    from transformers import AutoTokenizer

    served = Served(folders, AutoTokenizer.from_pretrained(next(iter(folders.values()))))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listed = {"data": [{"id": name} for name in served.folders]}
            self._send(200 if served.lists_models else 404, listed)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with served.lock:
                served.asked.append(body)
                if served.failing:
                    self._send(served.failing.pop(0), {"error": "planted failure"})
                    return
                answer = served.answer(body)
                served.answered.append(answer)
            self._send(200, answer)

        def _send(self, status: int, content: object) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_address[1]}/v1/completions"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
