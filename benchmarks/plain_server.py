"""A plain server to compare with: FastAPI around transformers' `generate`, one request at a time.

    python benchmarks/plain_server.py BASE

It runs in the peers' environment, and answers what serving_load.py asks for.
"""

import socket
import sys
import threading
import time
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from transformers import AutoModelForCausalLM


def application(base: str) -> FastAPI:
    """The server's one address."""
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    one_at_a_time, app = threading.Lock(), FastAPI()

    @app.post("/v1/completions")
    def completions(body: dict[str, Any]) -> dict[str, Any]:
        prompt = torch.tensor([body["prompt"]])
        drawn = body["temperature"] > 0
        ways = {"temperature": body["temperature"], "top_p": body["top_p"]} if drawn else {}
        with one_at_a_time, torch.inference_mode():
            torch.manual_seed(body["seed"])
            found = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=body["max_tokens"],
                do_sample=drawn,
                pad_token_id=model.config.eos_token_id,
                **ways,
            )
        made = found[0, prompt.shape[1] :].tolist()
        counts = {"prompt_tokens": prompt.shape[1], "completion_tokens": len(made)}
        return {
            "id": "plain",
            "object": "text_completion",
            "created": int(time.time()),
            "model": "base",
            "choices": [{"index": 0, "text": str(made), "finish_reason": "stop"}],
            "usage": {**counts, "total_tokens": sum(counts.values())},
        }

    return app


def main() -> None:
    """Serves on a port of its own, which it prints."""
    app = application(sys.argv[1])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(f"plain\nserving at http://127.0.0.1:{listening.getsockname()[1]}/v1", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listening])


if __name__ == "__main__":
    main()
