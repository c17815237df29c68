"""A real browser for the tests of pages: Chromium by the W3C WebDriver protocol, and no client library."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import requests


class Browser:
    """Headless Chromium without network. Raises RuntimeError with the driver's message."""

    def __init__(self, chromium: str, driver: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.http = requests.Session()
        self.http.trust_env = False  # no proxy to a driver on this machine
        self.base = f"http://127.0.0.1:{port}/session"
        arguments = [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
        ]
        arguments += ["--host-resolver-rules=MAP * ~NOTFOUND", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        options = {"binary": chromium, "args": arguments}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        for attempt in range(100):
            try:
                started = self._send("POST", "", {"capabilities": {"alwaysMatch": wanted}})
                break
            except requests.ConnectionError:
                if attempt == 99:
                    raise
                time.sleep(0.1)
        self.base += "/" + started["sessionId"]

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.http.request(method, self.base + path, json=body, timeout=120).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["message"])
        return answer

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, page: Path, width: int, height: int, *, dark: bool = False) -> None:
        """Show a file at a window size; `dark`: as a system that prefers dark does."""
        mobile = width < 600
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        self._send("POST", "/url", {"url": page.resolve().as_uri()})
        self.run("return new Promise((done) => setTimeout(done, 300))")

    def run(self, script: str) -> Any:
        """The value of `return …`; a promise is waited for."""
        return self._send("POST", "/execute/sync", {"script": script, "args": []})

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """The mouse at a place of an element, in shares of its sides; the page is scrolled there."""
        x, y = self.run(
            f"const node = document.querySelector({json.dumps(selector)});"
            "node.scrollIntoView({ block: 'center', behavior: 'instant' });"
            f"const b = node.getBoundingClientRect(); return [b.x + {across} * b.width, b.y + {down} * b.height]"
        )
        move = {"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}
        actions = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions}
        self._send("POST", "/actions", {"actions": [mouse]})

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus; W3C's code points for those without a letter."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def complaints(self) -> list[str]:
        """What the console has said since the last call: errors of scripts, refused requests."""
        return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def picture(self, path: Path) -> None:
        """What the window shows, as a PNG."""
        shot = self.devtools("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        try:
            self._send("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait()


def start() -> Browser | str:
    """A Chromium, or what is missing here."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    chromium = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing = "Chromium" if chromium is None else "chromedriver"
        return f"there is no {missing} here (Debian: apt install chromium chromium-driver)"
    return Browser(chromium, driver)
