"""A Hub of this process: as much of the Hugging Face Hub's protocol as an upload asks for."""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_stand_in"
LARGE = (".safetensors", ".png", ".pb", ".index", "-00001")
"""How files end that go apart, as the Hub's .gitattributes has it."""


class StandIn(ThreadingHTTPServer):
    """Takes repositories and commits from whoever has TOKEN; others see none of it."""

    daemon_threads = True

    def __init__(self, public=(), fails=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.private = dict.fromkeys(public, False)
        self.fails = fails  # paths, by what they begin with, that are answered with 500
        self.asked: list[str] = []
        self.blobs: dict[str, bytes] = {}
        self.repositories: dict[str, dict[str, bytes]] = {}

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: StandIn

    def log_message(self, *arguments):
        """Says nothing."""

    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_one(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith("/blobs/"):  # an address that is signed itself
            self.server.blobs[path.removeprefix("/blobs/")] = body
            return self.answer({})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": "Invalid username or password."}, 401)
        if any(path.startswith(begin) for begin in self.server.fails):
            return self.answer({"error": "out of order"}, 500)
        return self.answer(self.found(path, body))

    do_GET = do_POST = do_PUT = do_HEAD = handle_one

    def found(self, path, body):
        address = self.server.address
        if path == "/api/whoami-v2":
            return {"type": "user", "name": "ada", "auth": {"type": "access_token"}}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"ada/{asked['name']}"
            self.server.private.setdefault(name, asked.get("private", False))
            self.server.repositories.setdefault(name, {})
            return {"url": f"{address}/{name}", "name": name}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path.endswith("/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{address}/blobs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return {"transfer": "basic", "objects": objects}
        name = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {file: "lfs" if file.endswith(LARGE) else "regular" for file in files}
            return {
                "files": [
                    {"path": file, "uploadMode": mode, "shouldIgnore": False}
                    for file, mode in modes.items()
                ]
            }
        if "/commit/" in path:
            self.commit(name, body)
            return {
                "success": True,
                "commitOid": "0" * 40,
                "commitUrl": f"{address}/{name}/commit/0",
            }
        return {"id": name, "modelId": name, "private": self.server.private[name], "tags": []}

    def commit(self, name, body):
        files = self.server.repositories[name]
        for line in body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                blob = self.server.blobs[value["oid"]]
                assert hashlib.sha256(blob).hexdigest() == value["oid"]
                files[value["path"]] = blob


@contextlib.contextmanager
def stand_in(**arguments):
    """A Hub that answers inside the block."""
    hub = StandIn(**arguments)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
