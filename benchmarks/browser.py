"""Chromium for tests and measurements, driven by the DevTools protocol over a pipe: no package is needed.

Start it with `Browser(...)` and open a page with `open_page`; `evaluate` runs JavaScript there. Requests, console
messages and errors of the page and of its workers are collected.
"""

import base64
import functools
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final

FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


def find_chromium() -> str | None:
    """Return the path of Chromium or Chrome; None without one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """A browser with an empty profile. Close it with `close`."""

    def __init__(self, *flags: str) -> None:
        self.profile = tempfile.mkdtemp(prefix="emimic-browser-")
        (child_in, self._out), (self._in, child_out) = os.pipe(), os.pipe()
        program = ["bash", "-c", f'exec "$@" 3<&{child_in} 4>&{child_out}', "bash", find_chromium()]
        words = [*program, *FLAGS, *flags, f"--user-data-dir={self.profile}", "about:blank"]
        self._process = subprocess.Popen(  # type: ignore[call-overload]
            words, pass_fds=(child_in, child_out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        os.close(child_in)
        os.close(child_out)
        self._rest, self._number = b"", 0
        self._replies: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        """End the browser, and remove its profile."""
        try:
            self.send("Browser.close")
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self.profile, ignore_errors=True)

    def send(self, method: str, session: str | None = None, **params: Any) -> int:
        """Send a command; return its number."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {} if session is None else {"sessionId": session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._number

    def call(
        self, method: str, session: str | None = None, *, limit: float = 60.0, **params: Any
    ) -> dict[str, Any]:
        """Send a command, and return its result."""
        number = self.send(method, session, **params)
        end = time.monotonic() + limit
        while number not in self._replies:
            if not self.receive(end - time.monotonic()):
                raise TimeoutError(f"{method} took more than {limit:g} s")
        reply = self._replies.pop(number)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']['message']}")
        return reply["result"]

    def receive(self, timeout: float) -> bool:
        """Take the messages that have arrived; return False if none arrives in time."""
        if not select.select([self._in], [], [], max(0.0, timeout))[0]:
            return False
        data = os.read(self._in, 1 << 20)
        if not data:
            raise RuntimeError("the browser has ended")
        *messages, self._rest = (self._rest + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._replies[message["id"]] = message
                continue
            self.events.append(message)
            if message["method"] == "Target.attachedToTarget":  # a worker, which waits
                session = message["params"]["sessionId"]
                for method in ("Network.enable", "Runtime.enable", "Runtime.runIfWaitingForDebugger"):
                    self.send(method, session)
        return True

    def open_page(self, address: str) -> "Page":
        """Open a page in a new tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        page.call("Page.navigate", url=address)
        loaded, end = (
            f"location.href === {json.dumps(address)} && document.readyState === 'complete'",
            time.monotonic() + 60,
        )
        while time.monotonic() < end:
            with suppress(RuntimeError):  # the page before this one is just being left
                if page.evaluate(loaded):
                    return page
            self.receive(0.05)
        raise TimeoutError(f"{address} did not load within 60 s")

    def list_requests(self) -> list[str]:
        """Return the requests of pages and workers, each as its method and address."""
        asked = [e["params"]["request"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [
            f"{one['method']} {one['url']}" for one in asked if not one["url"].startswith(("data:", "blob:"))
        ]

    def list_complaints(self) -> list[str]:
        """Return errors and warnings in the console, and uncaught exceptions."""
        complaints = []
        for event in self.events:
            method, params = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                complaints.append(json.dumps(params["exceptionDetails"])[:500])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                complaints.append(json.dumps(params["args"])[:500])
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                complaints.append(json.dumps(params["entry"])[:500])
        return complaints


class Page:
    """A tab of a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session

    def call(self, method: str, *, limit: float = 60.0, **params: Any) -> dict[str, Any]:
        """Send a command to the tab, and return its result; `limit` in seconds."""
        return self.browser.call(method, self.session, limit=limit, **params)

    def evaluate(self, expression: str, *, timeout: float = 60.0) -> Any:
        """Return the value of an expression, of a promise its result; an exception is raised here."""
        reply = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
            limit=timeout,
        )
        if "exceptionDetails" in reply:
            details = reply["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return reply["result"].get("value")

    def wait(self, expression: str, *, timeout: float = 60.0) -> Any:
        """Return the first true value of an expression."""
        end = time.monotonic() + timeout
        while not (value := self.evaluate(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"not true after {timeout:g} s: {expression}")
            self.browser.receive(0.05)
        return value

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in an input element."""
        figures = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=figures["result"]["objectId"])

    def press(self, key: str, code: int) -> None:
        """Press a key, such as "Tab" with the code 9."""
        text = {" ": " ", "Enter": "\r"}.get(key)
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    def shoot(
        self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, full: bool = True
    ) -> None:
        """Write a screenshot of the page, as wide as a phone or a desktop."""
        self.resize(width, height, dark=dark)
        size = (
            self.call("Page.getLayoutMetrics")["cssContentSize"]
            if full
            else {"width": width, "height": height}
        )
        clip = {"x": 0, "y": 0, "width": width, "height": size["height"], "scale": 1}
        image = self.call("Page.captureScreenshot", captureBeyondViewport=full, clip=clip)
        path.write_bytes(base64.b64decode(image["data"]))

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window and the color scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        time.sleep(0.3)


class _Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine, as any static host does; yield its address, which ends with a slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
