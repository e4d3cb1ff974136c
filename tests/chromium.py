"""A headless Chromium to look at pages with, spoken to through its debugging pipe.

Run as a script it says what is wrong with pages, and takes screenshots: `python -m tests.chromium PAGE ...`.
"""

import argparse
import base64
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOOKS = [(width, scheme) for width in (1280, 768, 390) for scheme in ("light", "dark")]
MAX_BYTES = 1_000_000
_SPEC = importlib.util.find_spec("axe_core_python")
AXE = Path(_SPEC.origin or "").with_name("axe.min.js") if _SPEC else None
"""axe-core, as the package axe-core-python has it."""


class Chromium:
    """One browser with one page."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        given = (PATH, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
        given = (*given, f"--user-data-dir={self._profile.name}", "--disable-background-networking", "about:blank")
        redirected = ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash", *map(str, given)]
        self._process = subprocess.Popen(
            redirected,
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": self._profile.name},  # where it would leave folders of its own
        )
        os.close(to_read)
        os.close(to_write)
        self._number, self._buffer, self._session = 0, b"", None
        self.events: list[dict[str, Any]] = []
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._ask(f"{domain}.enable")

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def open(self, page: Path, width: int = 1280, scheme: str = "light", media: str = "screen") -> None:
        """Opens a page and waits until it has loaded."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self._ask("Emulation.setDeviceMetricsOverride", size)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", {"media": media, "features": wanted})
        self.events.clear()
        self._ask("Page.navigate", {"url": page.resolve().as_uri()})
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()

    def bypass_policy(self, wanted: bool = True) -> None:
        """Lets this tester's own script run in pages, whatever their policy says, or no more."""
        self._ask("Page.setBypassCSP", {"enabled": wanted})

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, once it is there."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        found = self._ask("Runtime.evaluate", asked)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, path: Path) -> None:
        """Writes a picture of the whole page."""
        shot = self._ask("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the console said since the page was opened: errors and warnings."""
        entries = [event["params"]["entry"] for event in self.events if event["method"] == "Log.entryAdded"]
        thrown = [str(event["params"]) for event in self.events if event["method"] == "Runtime.exceptionThrown"]
        logged = [str(event["params"]) for event in self.events if event["method"] == "Runtime.consoleAPICalled"]
        return [entry["text"] for entry in entries if entry["level"] in ("error", "warning")] + thrown + logged

    def requests(self) -> list[str]:
        """What was asked for since the page was opened, without the page itself and what lies in it as data."""
        sent = [event["params"]["request"]["url"] for event in self.events if event["method"].endswith("WillBeSent")]
        return [url for url in sent[1:] if not url.startswith("data:")]

    def _ask(self, method: str, parameters: dict | None = None) -> dict[str, Any]:
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if self._session:
            asked["sessionId"] = self._session
        content = json.dumps(asked).encode() + b"\0"
        while content:
            content = content[os.write(self._to, content) :]
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found = json.loads(message)
        if "method" in found:
            self.events.append(found)
        return found


def barriers(browser: Chromium) -> list[list[str]]:
    """The accessibility violations that axe-core finds in the page that is open: id, impact and element of each."""
    assert AXE is not None
    browser.value(f"{AXE.read_text()};1")
    return browser.value(
        "axe.run().then(found => found.violations.map(one => [one.id, one.impact, one.nodes[0].html]))"
    )


def wrong(browser: Chromium, page: Path, width: int, scheme: str) -> list[str]:
    """What is wrong with a page at a width and in a colour scheme; the browser must bypass policies."""
    browser.open(page, width, scheme)
    told = [f"the console says {text}" for text in browser.complaints()]
    told += [f"it asks for {url}" for url in browser.requests()]
    shown = browser.value("document.documentElement.scrollWidth")
    told += [f"it is {shown} px wide"] * (shown != width)
    told += [f"axe-core finds {name} ({impact}) in {element[:200]}" for name, impact, element in barriers(browser)]
    return told


def main() -> None:
    """Looks at pages at three widths and in both schemes; exit code 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path, help="a folder for screenshots")
    given = parser.parse_args()
    found = False
    with Chromium() as browser:
        browser.bypass_policy()
        for page in given.pages:
            size = page.stat().st_size
            print(f"{page}: {size:,} bytes")
            found |= size > MAX_BYTES
            for width, scheme in LOOKS:
                told = wrong(browser, page, width, scheme)
                found |= bool(told)
                print(f"  {width:>4} {scheme:<5} {'; '.join(told) or 'nothing wrong'}")
                if given.pictures:
                    given.pictures.mkdir(parents=True, exist_ok=True)
                    browser.picture(given.pictures / f"{page.resolve().parents[1].name}-{width}-{scheme}.png")
    sys.exit(int(found))


if __name__ == "__main__":
    main()
