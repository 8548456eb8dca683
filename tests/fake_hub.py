"""A small Hugging Face hub in this process: repositories in memory, over HTTP on the loopback address."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Hub:
    """Repositories by name: commits in order, each a hash and all of its files."""

    address: str = ""
    repositories: dict[str, list[tuple[str, Files]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def commit(self, name: str, files: Files) -> str:
        """Add a commit with these files over the last ones, and return its hash."""
        commits = self.repositories.setdefault(name, [])
        content = {**(commits[-1][1] if commits else {}), **files}
        digest = hashlib.sha1(repr((len(commits), sorted(content.items()))).encode()).hexdigest()
        commits.append((digest, content))
        return digest

    def find(self, name: str, revision: str) -> tuple[str, Files] | None:
        commits = self.repositories.get(name, [])
        chosen = commits[-1:] if revision == "main" else [one for one in commits if one[0] == revision]
        return chosen[0] if chosen else None


class Handler(BaseHTTPRequestHandler):
    """The endpoints that huggingface_hub uses for a model's repository."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            commit = self.hub.find(name, revision)
            if commit is None:
                self.reply(
                    404,
                    {"error": "not found"},
                    {"X-Error-Code": "RevisionNotFound" if name in self.hub.repositories else "RepoNotFound"},
                )
            elif len(parts) > 4 and parts[4] == "tree":
                self.reply(
                    200,
                    [
                        {
                            "type": "file",
                            "path": file,
                            "size": len(data),
                            "oid": hashlib.sha1(data).hexdigest(),
                        }
                        for file, data in commit[1].items()
                    ],
                )
            else:
                siblings = [{"rfilename": file} for file in commit[1]]
                self.reply(
                    200,
                    {
                        "id": name,
                        "modelId": name,
                        "sha": commit[0],
                        "siblings": siblings,
                        "private": False,
                        "tags": [],
                    },
                )
            return
        name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        commit = self.hub.find(name, revision)
        if parts[2] != "resolve" or commit is None or file not in commit[1]:
            self.reply(404, {"error": "not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        data = commit[1][file]
        self.reply(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit[0]})

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}" if given.get("organization") else given["name"]
            self.hub.repositories.setdefault(name, [])
            self.reply(200, {"url": f"{self.hub.address}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self.reply(200, {"errors": [], "warnings": []})
        elif parts[4] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.reply(200, {"files": files})
        else:
            lines = [json.loads(line) for line in body.splitlines() if line]
            name = "/".join(parts[2:4])
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            commit = self.hub.commit(name, files)
            self.reply(
                200,
                {
                    "commitOid": commit,
                    "commitUrl": f"{self.hub.address}/{name}/commit/{commit}",
                    "success": True,
                },
            )

    def reply(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {
            "Content-Length": str(len(data)),
            "Content-Type": "application/json",
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
