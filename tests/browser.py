"""A real browser for tests of pages: Debian's Chromium, without a window and without a network."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
LACKING = " and ".join(
    name for name, path in (("chromium", CHROMIUM), ("chromedriver (Debian: chromium-driver)", DRIVER)) if not path
)


@contextmanager
def browser(width: int = 1400, height: int = 900) -> Iterator[Chrome]:
    """A browser whose window has a size in pixels; closed afterwards."""
    assert CHROMIUM is not None
    os.environ["SE_AVOID_STATS"] = "true"
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio"):
        options.add_argument(flag)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")  # no name is looked up, whatever a page may ask for
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    try:
        resize(driver, width, height)
        yield driver
    finally:
        driver.quit()


def resize(driver: Chrome, width: int, height: int, dark: bool = False, scale: float = 1) -> None:
    """Give the page a size in CSS pixels, a colour scheme, and device pixels per CSS pixel."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def address(path: Path, fragment: str = "") -> str:
    """The address of a file."""
    return path.resolve().as_uri() + (f"#{fragment}" if fragment else "")


def requests(driver: Chrome) -> list[str]:
    """The addresses that were asked for since this was last asked, the pages themselves among them."""
    log: list[dict[str, Any]] = driver.get_log("performance")  # type: ignore[no-untyped-call]
    messages = [json.loads(entry["message"])["message"] for entry in log]
    sent = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    return [each["request"]["url"] for each in sent]


def complaints(driver: Chrome) -> list[str]:
    """What the console says since it was last asked: errors of scripts, refusals of the security policy."""
    log: list[dict[str, Any]] = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in log]
